"""Rules of `pinflow recover`: what a position means beside Kafka's log; what lost rows become."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from deploy.cli.recovery.comparison import Comparison, State, acceptable, compare
from deploy.cli.recovery.lost_rows import (
    LOST_MESSAGE,
    Job,
    Pin,
    Recorded,
    RowName,
    decide,
    records_of,
)
from deploy.cli.recovery.selection import SOURCES, Selection, Service, Source
from deploy.cli.recovery.summary import Survey, summarize
from shared.contract.errors import ErrorCode
from shared.contract.events import RowsSettled, RowStatus
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.positions.rules import PartitionLog, Refusal, StoredPosition
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
    service: Service = Service.PUBLISHER,
    topic: TopicName = TopicName.IMPORTS,
    partition: int = 0,
    is_there: bool = True,
    **fields: Any,
) -> Comparison:
    position = None if stored is None else StoredPosition(stored, **{"cluster_id": HERE, **fields})
    log = PartitionLog(begin, end, committed) if is_there else None
    return compare(service, topic, NAMES[topic], partition, position, log, HERE)


@pytest.mark.parametrize(
    ("found", "state", "records"),
    [
        (comparison(), State.OK, 0),
        (comparison(committed=40), State.OK, 0),
        (comparison(committed=None), State.OK, 0),
        (comparison(committed=80), State.BEHIND, 30),
        (comparison(replay_until=70), State.BEHIND, 20),
        (comparison(replay_until=50), State.OK, 0),
        (comparison(replay_until=200, end=60), State.BEHIND, 10),
        (comparison(stored=4), State.LOST, 6),
        (comparison(stored=120), State.AHEAD, 20),
        (comparison(committed=130), State.BEHIND, 50),
        (comparison(cluster_id=ELSEWHERE), State.FOREIGN, None),
        (comparison(stored=None), State.NEW, 90),
        (comparison(refused=Refusal.BEYOND_END), State.AHEAD, None),
        (comparison(refused=Refusal.OTHER_CLUSTER), State.FOREIGN, None),
        (comparison(is_there=False), State.AHEAD, 50),
        (comparison(is_there=False, cluster_id=ELSEWHERE), State.FOREIGN, None),
    ],
)
def test_a_position_has_one_state_beside_kafkas_log(
    found: Comparison,
    state: State,
    records: int | None,
) -> None:
    assert (found.state, found.records) == (state, records)
    assert found.must_be_accepted is (state in {State.LOST, State.AHEAD, State.FOREIGN})


def test_the_publishers_position_in_outcomes_never_waits_for_an_operator() -> None:
    found = comparison(stored=4, topic=TopicName.OUTCOMES)
    assert (found.state, found.records, found.must_be_accepted) == (State.LOST, 6, False)
    told = summarize(Survey(HERE, [found]), [found])
    assert "The publisher goes on by itself" in told[0]
    assert told[1].startswith("Nothing must be accepted")


def test_what_neither_kafka_nor_postgres_has_is_said_to_be_lost() -> None:
    found = comparison(committed=130)
    told = summarize(Survey(HERE, [found]), [found])
    assert "Kafka lost at least 30 of the last records" in told[1]


def test_the_publishers_position_in_outcomes_has_no_group_and_counts_as_committed() -> None:
    outcomes = comparison(committed=None, topic=TopicName.OUTCOMES)
    assert (outcomes.state, outcomes.lag) == (State.OK, 50)
    assert outcomes.document()["committed"] == 50


@pytest.mark.parametrize(
    ("found", "lag"),
    [
        (comparison(stored=100, committed=100), 0),
        (comparison(stored=100, committed=90), 10),
        (comparison(stored=90, committed=90), 10),
        (comparison(stored=None, committed=None), 90),
        (comparison(stored=None, committed=None, begin=100), 0),
        (comparison(stored=100, committed=None), 90),
        (comparison(stored=100, is_there=False), 0),
    ],
)
def test_what_is_neither_stored_nor_committed_is_not_completely_processed(
    found: Comparison,
    lag: int,
) -> None:
    assert found.lag == lag


def test_only_what_was_shown_in_the_same_state_is_accepted() -> None:
    lost, healthy = comparison(stored=4), comparison(partition=1)
    now_foreign = comparison(cluster_id=ELSEWHERE)
    assert acceptable([lost, healthy], [lost, healthy]) == [lost]
    assert acceptable([now_foreign], [lost]) == []
    assert acceptable([comparison(stored=4, partition=1)], [lost, healthy]) == []
    assert acceptable([comparison()], [lost]) == []


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), 6),
        (Selection(service=Service.STATUS), 2),
        (Selection(topic=Source.IMPORTS), 2),
        (Selection(service=Service.STATUS, topic=Source.IMPORTS), 1),
        (Selection(service=Service.STATUS, topic=Source.PIN_EVENTS), 0),
        (Selection(partition=1), 0),
    ],
)
def test_options_narrow_what_is_meant(selection: Selection, count: int) -> None:
    every = [(service, topic, 0) for service, topics in SOURCES.items() for topic in topics]
    assert sum(selection.takes(*one) for one in every) == count


def test_an_empty_installation_has_nothing_to_recover() -> None:
    empty = Survey(HERE, [comparison(stored=None, committed=None, begin=0, end=0)])
    assert summarize(empty, empty.comparisons) == [
        "There is nothing to recover: no service has stored a position yet.",
    ]


def test_the_summary_says_what_is_lost_what_heals_and_what_comes_next() -> None:
    found = [
        comparison(stored=4),
        comparison(stored=8, partition=1),
        comparison(committed=80, service=Service.STATUS),
        comparison(cluster_id=ELSEWHERE, service=Service.WEBHOOKS, topic=TopicName.PIN_EVENTS),
        comparison(stored=None, service=Service.STATUS, topic=TopicName.OUTCOMES),
    ]
    told = summarize(Survey(HERE, found), found)
    deleted = "Kafka deleted 8 records of pinflow.imports.v2 in 2 partitions unprocessed."
    assert told[0] == f"publisher: {deleted} Rows that were lost are not published."
    assert told[1].startswith(
        "status: Postgres is older than Kafka. 30 records of pinflow.imports.v2",
    )
    assert "belong to another Kafka cluster" in told[2]
    assert told[3].endswith("At its start it reads all that Kafka has there: 90 records.")
    assert "pinflow recover --accept" in told[4]
    assert "pinflow recover --fail-lost" in told[-1]
    seeded = summarize(Survey(HERE, found, {Service.STATUS}), found)
    assert "takes over the offsets that its group has committed" in seeded[3]


def test_the_summary_says_when_options_hide_what_must_be_accepted() -> None:
    lost, healthy = comparison(stored=4), comparison(service=Service.STATUS)
    survey = Survey(HERE, [lost, healthy])
    assert summarize(survey, [healthy]) == [
        "Nothing must be accepted: 1 partition looked at.",
        "1 partition that the options leave out must be accepted.",
    ]


def job(settled: str = "0", total_rows: int = 3) -> Job:
    return Job(uuid4(), uuid4(), NOON, total_rows, settled.ljust(501, "0"))


def test_invariant_2_each_row_without_a_result_gets_one() -> None:
    mine = job("01")
    second, third = RowName(mine.job_id, 2), RowName(mine.job_id, 3)
    pin = Pin(uuid4(), "key-2", None)
    decision = decide(mine, {}, {second: pin})
    created, lost = decision.results
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
    assert [(one.code, one.message) for one in lost.errors] == [("row_lost", LOST_MESSAGE)]
    assert decision.lost == [third]
    assert decision.counts() == {"created": 1, "failed": 1}


def test_a_row_that_was_scheduled_is_created_with_its_schedule() -> None:
    mine = job(total_rows=1)
    pin = Pin(uuid4(), "key", NOON + timedelta(days=1))
    (created,) = decide(mine, {}, {RowName(mine.job_id, 1): pin}).results
    assert (created.pin_id, created.schedule_id) == (None, derive_schedule_id(pin.pin_id))


def test_invariant_4_a_recorded_outcome_is_reported_and_not_recorded_again() -> None:
    mine = job(total_rows=2)
    first, second = RowName(mine.job_id, 1), RowName(mine.job_id, 2)
    other = uuid4()
    recorded = {
        first: Recorded(RowStatus.EXISTING, other, None, payload_matches=False),
        second: Recorded(
            RowStatus.FAILED,
            error_code="board_not_found",
            error_message="board_id: no",
        ),
    }
    decision = decide(mine, recorded, {first: Pin(uuid4(), "key", None)})
    existing, failed = decision.results
    assert (existing.status, existing.pin_id, existing.payload_matches) == (
        "existing",
        other,
        False,
    )
    assert (failed.status, failed.error_code) == ("failed", "board_not_found")
    assert decision.lost == []


def test_results_travel_as_the_publishers_do_several_to_a_record() -> None:
    mine = job(total_rows=500)
    records = records_of([decide(mine, {}, {}), decide(job("0111"), {}, {})])
    events = [parse_event(RowsSettled, record.value) for record in records]
    assert {record.key for record in records} == {str(mine.job_id).encode()}
    assert {(event.job_id, event.workspace_id) for event in events} == {
        (mine.job_id, mine.workspace_id),
    }
    numbers = [result.row_number for event in events for result in event.results]
    assert numbers == list(range(1, 501))
    assert [len(event.results) for event in events] == [200, 200, 100]
