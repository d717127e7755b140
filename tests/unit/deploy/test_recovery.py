"""Rules of `pinflow recover`: states of stored positions, and results of lost rows."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from deploy.cli.recovery.comparison import Comparison, PositionState, compare, find_unchanged
from deploy.cli.recovery.lost_rows import (
    LOST_MESSAGE,
    CreatedPin,
    RecordedOutcome,
    UnfinishedJob,
    build_result_records,
    decide_results,
)
from deploy.cli.recovery.positions import (
    POSITION_TOPICS,
    PartitionFilter,
    PositionOwner,
    PositionTopic,
)
from deploy.cli.recovery.summary import LostPin, Survey, summarize
from deploy.cli.row_id import RowId
from shared.contract.errors import ErrorCode
from shared.contract.events import ExistingState, FieldDifference, RowsSettled, RowStatus
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.positions.rules import PartitionLog, Refusal, StoredPosition
from shared.kafka.records import MAX_BATCH_BYTES
from tests.support.events import parse_event
from tests.support.factories import NOON

HERE, ELSEWHERE = "this-cluster", "another-cluster"
NAMES = TopicNames()


def comparison(
    stored: int | None = 50,
    *,
    committed: int | None = 50,
    begin: int = 10,
    end: int = 100,
    service: PositionOwner = PositionOwner.PUBLISHER,
    topic: TopicName = TopicName.IMPORTS,
    partition: int = 0,
    exists_in_kafka: bool = True,
    **fields: Any,
) -> Comparison:
    position = None if stored is None else StoredPosition(stored, **{"cluster_id": HERE, **fields})
    log = PartitionLog(begin, end, committed) if exists_in_kafka else None
    return compare(service, topic, NAMES[topic], partition, position, log, HERE)


@pytest.mark.parametrize(
    ("compared", "state", "records"),
    [
        (comparison(), PositionState.OK, 0),
        (comparison(committed=40), PositionState.OK, 0),
        (comparison(committed=None), PositionState.OK, 0),
        (comparison(committed=80), PositionState.BEHIND, 30),
        (comparison(replay_until=70), PositionState.BEHIND, 20),
        (comparison(replay_until=50), PositionState.OK, 0),
        (comparison(replay_until=200, end=60), PositionState.BEHIND, 10),
        (comparison(stored=4), PositionState.LOST, 6),
        (comparison(stored=120), PositionState.AHEAD, 20),
        (comparison(committed=130), PositionState.BEHIND, 50),
        (comparison(cluster_id=ELSEWHERE), PositionState.FOREIGN, None),
        (comparison(stored=None), PositionState.NEW, 90),
        (comparison(refused=Refusal.BEYOND_END), PositionState.AHEAD, None),
        (comparison(refused=Refusal.OTHER_CLUSTER), PositionState.FOREIGN, None),
        (comparison(exists_in_kafka=False), PositionState.AHEAD, 50),
        (comparison(exists_in_kafka=False, cluster_id=ELSEWHERE), PositionState.FOREIGN, None),
    ],
)
def test_a_position_has_one_state_compared_with_kafkas_log(
    compared: Comparison,
    state: PositionState,
    records: int | None,
) -> None:
    assert (compared.state, compared.records) == (state, records)
    assert compared.must_be_accepted is (
        state in {PositionState.LOST, PositionState.AHEAD, PositionState.FOREIGN}
    )


def test_a_loss_at_the_publishers_position_in_outcomes_needs_no_operator() -> None:
    loss = comparison(stored=4, topic=TopicName.OUTCOMES)
    assert (loss.state, loss.records, loss.must_be_accepted) == (PositionState.LOST, 6, False)
    sentences = summarize(Survey(HERE, [loss]), [loss])
    assert "The publisher continues automatically" in sentences[0]
    assert sentences[1].endswith("There is no loss to accept.")


def test_the_summary_names_records_that_neither_kafka_nor_postgres_has() -> None:
    loss = comparison(committed=130)
    sentences = summarize(Survey(HERE, [loss]), [loss])
    assert "Kafka lost at least 30 of the last records" in sentences[1]


def test_the_publishers_position_in_outcomes_counts_as_committed_without_a_group() -> None:
    outcomes = comparison(committed=None, topic=TopicName.OUTCOMES)
    assert (outcomes.state, outcomes.lag) == (PositionState.OK, 50)
    assert outcomes.document()["committed"] == 50


@pytest.mark.parametrize(
    ("compared", "lag"),
    [
        (comparison(stored=100, committed=100), 0),
        (comparison(stored=100, committed=90), 10),
        (comparison(stored=90, committed=90), 10),
        (comparison(stored=None, committed=None), 90),
        (comparison(stored=None, committed=None, begin=100), 0),
        (comparison(stored=100, committed=None), 90),
        (comparison(stored=100, exists_in_kafka=False), 0),
    ],
)
def test_the_lag_counts_records_behind_the_lower_of_position_and_committed_offset(
    compared: Comparison,
    lag: int,
) -> None:
    assert compared.lag == lag


def test_only_a_loss_that_still_has_the_state_shown_is_accepted() -> None:
    lost, healthy = comparison(stored=4), comparison(partition=1)
    now_foreign = comparison(cluster_id=ELSEWHERE)
    assert find_unchanged([lost, healthy], [lost, healthy]) == [lost]
    assert find_unchanged([now_foreign], [lost]) == []
    assert find_unchanged([comparison(stored=4, partition=1)], [lost, healthy]) == []
    assert find_unchanged([comparison()], [lost]) == []


@pytest.mark.parametrize(
    ("partition_filter", "count"),
    [
        (PartitionFilter(), 7),
        (PartitionFilter(service=PositionOwner.STATUS), 2),
        (PartitionFilter(topic=PositionTopic.IMPORTS), 2),
        (PartitionFilter(service=PositionOwner.STATUS, topic=PositionTopic.IMPORTS), 1),
        (PartitionFilter(service=PositionOwner.STATUS, topic=PositionTopic.PIN_EVENTS), 0),
        (PartitionFilter(partition=1), 0),
    ],
)
def test_options_select_partitions(partition_filter: PartitionFilter, count: int) -> None:
    positions = [
        (service, topic, 0) for service, topics in POSITION_TOPICS.items() for topic in topics
    ]
    assert sum(partition_filter.matches(*position) for position in positions) == count


def test_an_empty_installation_has_nothing_to_recover() -> None:
    empty = Survey(HERE, [comparison(stored=None, committed=None, begin=0, end=0)])
    assert summarize(empty, empty.comparisons) == [
        "There is nothing to recover: no service has stored a position yet.",
    ]


def test_the_summary_describes_losses_automatic_recovery_and_the_next_step() -> None:
    comparisons = [
        comparison(stored=4),
        comparison(stored=8, partition=1),
        comparison(committed=80, service=PositionOwner.STATUS),
        comparison(
            cluster_id=ELSEWHERE, service=PositionOwner.WEBHOOKS, topic=TopicName.PIN_EVENTS
        ),
        comparison(stored=None, service=PositionOwner.STATUS, topic=TopicName.OUTCOMES),
    ]
    sentences = summarize(Survey(HERE, comparisons), comparisons)
    deleted = (
        "Kafka deleted 8 records of pinflow.imports.v2 in 2 partitions before they were processed."
    )
    assert sentences[0] == f"publisher: {deleted} The lost rows are not published."
    assert sentences[1].startswith(
        "status: Postgres is older than Kafka. 30 records of pinflow.imports.v2",
    )
    assert "belong to another Kafka cluster" in sentences[2]
    assert sentences[3].endswith("It will read everything that Kafka has there: 90 records.")
    assert "pinflow recover --accept" in sentences[4]
    assert "pinflow recover --fail-lost" in sentences[-1]
    seeded = summarize(Survey(HERE, comparisons, {PositionOwner.STATUS}), comparisons)
    assert "will start at the offsets that its group has committed" in seeded[3]


def test_the_summary_mentions_losses_that_options_leave_out() -> None:
    lost, healthy = comparison(stored=4), comparison(service=PositionOwner.STATUS)
    survey = Survey(HERE, [lost, healthy])
    assert summarize(survey, [healthy]) == [
        "1 partition compared. There is no loss to accept.",
        (
            "Your options leave out 1 partition with a loss to accept. See them with: "
            "pinflow recover"
        ),
    ]


def job(settled: str = "0", total_rows: int = 3) -> UnfinishedJob:
    return UnfinishedJob(uuid4(), uuid4(), NOON, total_rows, settled.ljust(501, "0"))


def test_invariant_2_each_row_without_a_result_gets_one() -> None:
    unfinished = job("01")
    second, third = RowId(unfinished.job_id, 2), RowId(unfinished.job_id, 3)
    pin = CreatedPin(uuid4(), "key-2", None)
    job_results = decide_results(unfinished, {}, {second: pin})
    created, lost = job_results.results
    assert (created.row_number, created.status, created.pin_id) == (
        2,
        RowStatus.CREATED,
        pin.pin_id,
    )
    assert (created.schedule_id, created.idempotency_key) == (None, "key-2")
    assert (lost.row_number, lost.status, lost.error_code) == (
        3,
        RowStatus.FAILED,
        ErrorCode.ROW_LOST,
    )
    assert lost.errors is not None
    assert [(fault.code, fault.message) for fault in lost.errors] == [("row_lost", LOST_MESSAGE)]
    assert job_results.lost == [third]
    assert job_results.counts() == {"created": 1, "failed": 1}


def test_a_lost_row_that_was_scheduled_is_created_with_its_schedule_id() -> None:
    unfinished = job(total_rows=1)
    pin = CreatedPin(uuid4(), "key", NOON + timedelta(days=1))
    (created,) = decide_results(unfinished, {}, {RowId(unfinished.job_id, 1): pin}).results
    assert (created.pin_id, created.schedule_id) == (None, derive_schedule_id(pin.pin_id))


def test_invariant_4_a_recorded_outcome_is_reported_and_not_recorded_again() -> None:
    unfinished = job(total_rows=2)
    first, second = RowId(unfinished.job_id, 1), RowId(unfinished.job_id, 2)
    other = uuid4()
    difference = FieldDifference(field="title", stored="Lamp", sent=None)
    recorded = {
        first: RecordedOutcome(
            RowStatus.EXISTING,
            other,
            payload_matches=False,
            existing_state=ExistingState.DELETED,
            differing_fields=[difference],
        ),
        second: RecordedOutcome(
            RowStatus.FAILED,
            error_code="board_not_found",
            error_message="board_id: no",
        ),
    }
    job_results = decide_results(unfinished, recorded, {first: CreatedPin(uuid4(), "key", None)})
    existing, failed = job_results.results
    assert (existing.status, existing.pin_id, existing.payload_matches) == (
        "existing",
        other,
        False,
    )
    assert (existing.existing_state, existing.differing_fields) == ("deleted", [difference])
    assert (failed.status, failed.error_code) == ("failed", "board_not_found")
    assert job_results.lost == []


def test_results_are_sent_in_records_of_at_most_200_as_the_publisher_sends_them() -> None:
    unfinished = job(total_rows=500)
    records = build_result_records(
        [decide_results(unfinished, {}, {}), decide_results(job("0111"), {}, {})]
    )
    events = [parse_event(RowsSettled, record.value) for record in records]
    assert {record.key for record in records} == {str(unfinished.job_id).encode()}
    assert {(event.job_id, event.workspace_id) for event in events} == {
        (unfinished.job_id, unfinished.workspace_id),
    }
    numbers = [result.row_number for event in events for result in event.results]
    assert numbers == list(range(1, 501))
    assert [len(event.results) for event in events] == [200, 200, 100]


def test_the_longest_results_are_split_into_records_that_fit() -> None:
    unfinished = job(total_rows=200)
    texts = {"stored": "\x01" * 100, "sent": "\x01" * 100}
    existing = RecordedOutcome(
        RowStatus.EXISTING,
        pin_id=uuid4(),
        payload_matches=False,
        existing_state=ExistingState.PUBLISHED,
        differing_fields=[FieldDifference(field="title", **texts)] * 13,
    )
    results = decide_results(unfinished, dict.fromkeys(unfinished.rows(), existing), {})
    records = build_result_records([results])
    assert all(len(record.value) <= MAX_BATCH_BYTES for record in records)
    events = [parse_event(RowsSettled, record.value) for record in records]
    assert [row.row_number for event in events for row in event.results] == list(range(1, 201))


@pytest.mark.parametrize(
    ("topic", "must_be_accepted"), [(TopicName.OUTCOMES, False), (TopicName.DELIVERIES, True)]
)
def test_invariant_12_a_loss_of_attempts_must_be_accepted_although_no_group_reads_them(
    topic: TopicName, must_be_accepted: bool
) -> None:
    lost = comparison(stored=120, committed=None, topic=topic)
    assert (lost.state, lost.must_be_accepted) == (PositionState.AHEAD, must_be_accepted)
    assert comparison(stored=50, committed=None, topic=topic).state is PositionState.OK


def test_pins_that_only_pinterest_has_are_counted() -> None:
    pin = LostPin("813744226420795884", uuid4(), uuid4(), uuid4(), "549755885175", "Lamp")
    compared = [comparison()]
    (sentence,) = [
        line
        for line in summarize(Survey(HERE, compared, lost_pins=[pin]), compared)
        if "Pinterest" in line
    ]
    assert sentence.startswith("1 pin is on Pinterest, and Postgres lost it")
    assert pin.document()["title"] == "Lamp"
