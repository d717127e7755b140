"""The ledger of the kills finds errors in constructed records."""

from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest

from services.ingest.records import ImportBatch
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.ledger import AppendOutcome, Findings, Ledger, summarize_batch
from tests.tools.chaos.kills.tally import Kill, Kind, Tally, load, report

NO_FINDINGS = Findings()


@pytest.fixture(scope="module")
def factory() -> ImportFactory:
    return ImportFactory(Random(1))


def send(
    ledger: Ledger,
    factory: ImportFactory,
    outcome: AppendOutcome | None = AppendOutcome.ACKNOWLEDGED,
) -> tuple[UUID, ImportBatch]:
    job_id, batch = factory.build(rows=3)
    ledger.send(job_id, summarize_batch(batch))
    if outcome is not None:
        ledger.settle(job_id, outcome)
    return job_id, batch


def read(ledger: Ledger, job_id: UUID, batch: ImportBatch, *, records: int | None = None) -> None:
    for record in batch.records[:records]:
        ledger.read(job_id, record.value)


def test_a_complete_import_has_no_findings(factory: ImportFactory) -> None:
    ledger = Ledger()
    read(ledger, *send(ledger, factory))
    assert ledger.check() == NO_FINDINGS


def test_a_missing_acknowledged_import_is_lost_and_reported_once(
    factory: ImportFactory,
) -> None:
    ledger = Ledger()
    job_id, _ = send(ledger, factory)
    assert ledger.check().lost == [f"job {job_id} was acknowledged, but is not on the topic"]
    assert ledger.check() == NO_FINDINGS


@pytest.mark.parametrize("outcome", [*AppendOutcome, None])
def test_an_import_with_missing_records_is_partial_whatever_its_outcome(
    factory: ImportFactory, outcome: AppendOutcome | None
) -> None:
    ledger = Ledger()
    read(ledger, *send(ledger, factory, outcome), records=2)
    assert len(ledger.check().partial) == 1


def test_an_import_with_records_in_another_order_is_partial(factory: ImportFactory) -> None:
    ledger = Ledger()
    job_id, batch = send(ledger, factory)
    for record in reversed(batch.records):
        ledger.read(job_id, record.value)
    assert len(ledger.check().partial) == 1


def test_an_import_that_is_stored_twice_is_duplicated(factory: ImportFactory) -> None:
    ledger = Ledger()
    built = send(ledger, factory)
    read(ledger, *built)
    read(ledger, *built)
    assert len(ledger.check().duplicated) == 1


def test_an_import_that_is_stored_again_after_a_later_kill_is_duplicated(
    factory: ImportFactory,
) -> None:
    ledger = Ledger()
    built = send(ledger, factory)
    read(ledger, *built)
    assert ledger.check() == NO_FINDINGS
    read(ledger, *built)
    assert len(ledger.check().duplicated) == 1


def test_an_import_with_an_unknown_outcome_may_arrive_later_or_never(
    factory: ImportFactory,
) -> None:
    ledger = Ledger()
    built = send(ledger, factory, AppendOutcome.UNKNOWN)
    send(ledger, factory, None)
    assert ledger.check() == NO_FINDINGS
    read(ledger, *built)
    assert ledger.check() == Findings(unknown_stored=1)


def test_a_stored_refused_import_and_an_unsent_import_are_unexpected(
    factory: ImportFactory,
) -> None:
    ledger = Ledger()
    read(ledger, *send(ledger, factory, AppendOutcome.REFUSED))
    ledger.read(uuid4(), b"{}")
    assert len(ledger.check().unexpected) == 2


def test_a_second_reading_of_the_whole_topic_checks_every_import_again(
    factory: ImportFactory,
) -> None:
    ledger = Ledger()
    first, second = send(ledger, factory), send(ledger, factory)
    read(ledger, *first)
    read(ledger, *second)
    assert ledger.check() == NO_FINDINGS
    again = ledger.copy_unread()
    read(again, *first)
    assert again.check().lost == [f"job {second[0]} was acknowledged, but is not on the topic"]


def test_a_tally_continues_an_earlier_run_and_reports_failures(tmp_path: Path) -> None:
    file = tmp_path / "kills" / "tally.jsonl"
    Tally(file, Kind.LONE).add(
        Kill(Kind.LONE, 1, seed=7, acknowledged=20, seconds_until_accepting=4.5)
    )
    failing = Kill(Kind.LONE, 2, seed=7)
    failing.add_findings(Findings(partial=["job 1 (acknowledged): 2 of 3 records"]), {5})
    Tally(file, Kind.LONE).add(failing)
    assert [kill.number for kill in Tally(file, Kind.LONE).kills] == [1, 2]
    assert Tally(file, Kind.THREE).kills == []
    assert [kill.failed for kill in load([file])] == [False, True]
    assert "lone 2 (seed 7): partitions [5] are stalled" in report(load([file]))
