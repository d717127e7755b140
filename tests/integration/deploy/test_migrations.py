"""Revisions keep what the database already holds."""

from uuid import UUID, uuid4

import orjson
import psycopg
from pydantic import SecretStr

from deploy.migrations import migrate
from services.status.folding import fold
from services.status.repository import JobRepository
from services.status.service import Missing
from shared.contract.events import ImportAccepted
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.factories import NOON, created, failed, import_accepted, rows_settled
from tests.support.infrastructure import Servers, copied_database
from tests.support.migrations import migrate_to

BEFORE_RESULTS_AS_JSON = "0009"
JOB = """
    insert into status.jobs (
        job_id, workspace_id, accepted_at, total_rows, created_rows, existing_rows, failed_rows,
        status, completed_at, source_type
    ) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'json')
"""


async def test_results_of_a_version_that_kept_each_in_a_row_of_its_own_are_kept_and_go_on(
    stack: Servers,
) -> None:
    half_done, untouched, deleted, made_up = (
        import_accepted(total_rows=total) for total in (4, 1, 500, 4)
    )
    pin_id = uuid4()
    with copied_database(stack.database_url) as url:
        migrate_to(url, BEFORE_RESULTS_AS_JSON)
        _fill(url, half_done.job_id, half_done.workspace_id, pin_id)
        _fill_oddly(url, deleted, made_up)
        migrate(url)
        database = Database.from_settings(
            DatabaseSettings(database_url=SecretStr(url)), application="tests"
        )
        store = JobRepository(database)
        before = await store.find_job(half_done.workspace_id, half_done.job_id)
        await store.fold(
            fold(
                [untouched, rows_settled(half_done, failed(3), created(1), created(2), created(4))]
            ),
            Advance(),
            moves=False,
        )
        after = await store.find_job(half_done.workspace_id, half_done.job_id)
        await store.fold(
            fold([rows_settled(deleted, created(7)), rows_settled(made_up, created(1))]),
            Advance(),
            moves=False,
        )
        odd = [await store.find_job(job.workspace_id, job.job_id) for job in (deleted, made_up)]
        await database.dispose()
    assert not isinstance(before, Missing)
    assert not isinstance(after, Missing)
    results = orjson.loads(before["results"])
    assert [(one["row_number"], one["status"], one["payload_matches"]) for one in results] == [
        (2, "existing", False),
        (3, "failed", None),
    ]
    assert (results[0]["pin_id"], results[0]["idempotency_key"], results[0]["errors"]) == (
        str(pin_id),
        "k",
        [],
    )
    assert results[1]["errors"] == [{"code": "c", "message": "m", "field": "title", "value": None}]
    assert orjson.loads(after["results"])[1:3] == results
    assert (after["created_rows"], after["existing_rows"], after["failed_rows"]) == (2, 1, 1)
    assert after["completed_at"] is not None
    assert [
        (job["created_rows"], job["results"][:2]) for job in odd if not isinstance(job, Missing)
    ] == [(500, b"[]"), (1, b"[{")]


def _fill(url: str, job_id: UUID, workspace_id: UUID, pin_id: UUID) -> None:
    """A job of four rows, of which 2 and 3 have settled."""
    results = (
        "insert into status.row_results (job_id, row_number, status, payload_matches, pin_id, "
        "idempotency_key, error_code, errors) "
    )
    errors = '[{"code": "c", "field": "title", "message": "m", "value": null}]'
    with psycopg.connect(url) as connection:
        connection.execute(JOB, (job_id, workspace_id, NOON, 4, 0, 1, 1, "processing", None))
        connection.execute(
            results + "values (%s, 3, 3, null, null, 'l', 'c', %s)", (job_id, errors)
        )
        connection.execute(
            results + "values (%s, 2, 2, false, %s, 'k', null, null)", (job_id, pin_id)
        )


def _fill_oddly(url: str, deleted: ImportAccepted, made_up: ImportAccepted) -> None:
    """Adds an ended job without its results, and a result of a row that its job does not have."""
    with psycopg.connect(url) as connection:
        connection.execute(
            JOB, (deleted.job_id, deleted.workspace_id, NOON, 500, 500, 0, 0, "completed", NOON)
        )
        connection.execute(
            JOB, (made_up.job_id, made_up.workspace_id, NOON, 4, 1, 0, 0, "processing", None)
        )
        connection.execute(
            "insert into status.row_results (job_id, row_number, status) values (%s, 501, 1)",
            (made_up.job_id,),
        )
