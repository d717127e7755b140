"""Migrations keep the data that the database has."""

from uuid import UUID, uuid4

import orjson
import psycopg
from pydantic import SecretStr

from deploy.migrations import migrate
from services.status.folding import group_by_job
from services.status.model import Missing
from services.status.repository import JobRepository
from shared.contract.events import ImportAccepted
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.factories import (
    NOON,
    created_result,
    failed_result,
    import_accepted,
    rows_settled,
)
from tests.support.infrastructure import Servers, copied_database
from tests.support.migrations import migrate_to

BEFORE_RESULTS_AS_JSON = "0009"
JOB = """
    insert into status.jobs (
        job_id, workspace_id, accepted_at, total_rows, created_rows, existing_rows, failed_rows,
        status, completed_at, source_type
    ) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'json')
"""


async def test_results_of_a_version_with_a_table_row_per_result_are_kept_and_continued(
    stack: Servers,
) -> None:
    half_done, untouched, without_results, with_extra_result = (
        import_accepted(total_rows=total) for total in (4, 1, 500, 4)
    )
    pin_id = uuid4()
    with copied_database(stack.database_url) as url:
        migrate_to(url, BEFORE_RESULTS_AS_JSON)
        _fill(url, half_done.job_id, half_done.workspace_id, pin_id)
        _fill_inconsistently(url, without_results, with_extra_result)
        migrate(url)
        database = Database.from_settings(
            DatabaseSettings(database_url=SecretStr(url)), application="tests"
        )
        store = JobRepository(database)
        before = await store.find_job(half_done.workspace_id, half_done.job_id)
        await store.fold(
            group_by_job(
                [
                    untouched,
                    rows_settled(
                        half_done,
                        failed_result(3),
                        created_result(1),
                        created_result(2),
                        created_result(4),
                    ),
                ]
            ),
            Advance(),
            moves=False,
        )
        after = await store.find_job(half_done.workspace_id, half_done.job_id)
        await store.fold(
            group_by_job(
                [
                    rows_settled(without_results, created_result(7)),
                    rows_settled(with_extra_result, created_result(1)),
                ]
            ),
            Advance(),
            moves=False,
        )
        inconsistent = [
            await store.find_job(job.workspace_id, job.job_id)
            for job in (without_results, with_extra_result)
        ]
        await database.dispose()
    assert not isinstance(before, Missing)
    assert not isinstance(after, Missing)
    results = orjson.loads(before["results"])
    assert [
        (result["row_number"], result["status"], result["payload_matches"]) for result in results
    ] == [
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
        (job["created_rows"], job["results"][:2])
        for job in inconsistent
        if not isinstance(job, Missing)
    ] == [(500, b"[]"), (1, b"[{")]


def _fill(url: str, job_id: UUID, workspace_id: UUID, pin_id: UUID) -> None:
    """Adds a job of four rows, of which 2 and 3 have settled."""
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


def _fill_inconsistently(
    url: str, without_results: ImportAccepted, with_extra_result: ImportAccepted
) -> None:
    """Adds an ended job without its results, and a result of a row that its job does not have."""
    with psycopg.connect(url) as connection:
        connection.execute(
            JOB,
            (
                without_results.job_id,
                without_results.workspace_id,
                NOON,
                500,
                500,
                0,
                0,
                "completed",
                NOON,
            ),
        )
        connection.execute(
            JOB,
            (
                with_extra_result.job_id,
                with_extra_result.workspace_id,
                NOON,
                4,
                1,
                0,
                0,
                "processing",
                None,
            ),
        )
        connection.execute(
            "insert into status.row_results (job_id, row_number, status) values (%s, 501, 1)",
            (with_extra_result.job_id,),
        )
