"""When pins may be sent: positions and Kafka's log are compared."""

import pytest
from aiokafka import TopicPartition

from services.publisher.delivery.log.gate_rules import (
    describe_refusals,
    describe_replays,
    find_refusals,
    find_replays,
)
from shared.kafka.positions.rules import PartitionLog, Refusal, StoredPosition

CLUSTER = "cluster"
PARTITION = TopicPartition("pinflow.imports.v2", 3)


def replays(position: StoredPosition | None, log: PartitionLog) -> list[TopicPartition]:
    stored = {} if position is None else {PARTITION: position}
    return find_replays(stored, {PARTITION: log}, CLUSTER)


def refusals(position: StoredPosition, log: PartitionLog) -> list[Refusal]:
    return list(find_refusals({PARTITION: position}, {PARTITION: log}, CLUSTER).values())


@pytest.mark.parametrize(
    ("position", "log"),
    [
        (StoredPosition(50, CLUSTER), PartitionLog(0, 5000, 50)),
        (StoredPosition(50, CLUSTER), PartitionLog(0, 5000, 40)),
        (StoredPosition(50, CLUSTER, replay_until=50), PartitionLog(0, 60, 50)),
        (None, PartitionLog(0, 100, None)),
    ],
    ids=["backlog", "not committed yet", "replay has ended", "first start"],
)
def test_a_backlog_of_rows_does_not_stop_delivery(
    position: StoredPosition | None, log: PartitionLog
) -> None:
    assert replays(position, log) == []


@pytest.mark.parametrize(
    ("position", "log"),
    [
        (StoredPosition(40, CLUSTER), PartitionLog(0, 60, 50)),
        (StoredPosition(40, CLUSTER, replay_until=50), PartitionLog(0, 60, 40)),
        (None, PartitionLog(0, 60, 50)),
    ],
    ids=["before the committed offset", "replay has begun", "no position"],
)
def test_rows_that_are_read_again_stop_delivery(
    position: StoredPosition | None, log: PartitionLog
) -> None:
    assert replays(position, log) == [PARTITION]


@pytest.mark.parametrize(
    ("position", "log", "refusal"),
    [
        (StoredPosition(5, CLUSTER), PartitionLog(6, 60, 5), Refusal.BEFORE_BEGIN),
        (StoredPosition(61, CLUSTER), PartitionLog(0, 60, 60), Refusal.BEYOND_END),
        (StoredPosition(5, "other"), PartitionLog(0, 60, 5), Refusal.OTHER_CLUSTER),
        (
            StoredPosition(5, CLUSTER, refused=Refusal.BEYOND_END),
            PartitionLog(0, 60, 5),
            Refusal.BEYOND_END,
        ),
    ],
)
def test_a_position_outside_of_the_log_stops_delivery_until_the_loss_is_accepted(
    position: StoredPosition, log: PartitionLog, refusal: Refusal
) -> None:
    assert refusals(position, log) == [refusal]
    assert replays(position, log) == []


def test_the_reasons_name_the_partition_and_the_next_step() -> None:
    assert describe_refusals({PARTITION: Refusal.BEYOND_END}) == (
        "nothing is sent to Pinterest: positions do not fit Kafka's log: pinflow.imports.v2/3 "
        "(beyond_end). To see what is lost, run: pinflow recover"
    )
    assert describe_replays([PARTITION]) == (
        "nothing is sent to Pinterest: the publisher reads rows of pinflow.imports.v2/3 again, "
        "because Postgres is older than Kafka. No action is needed"
    )
