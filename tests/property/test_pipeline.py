"""Ingest, publisher and status without Kafka: every row of an accepted import settles."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import ApiError
from shared.postgres.database import Database
from shared.postgres.row import Row
from tests.property.conftest import Run
from tests.property.documents import arbitrary_rows, mutated, valid_rows
from tests.property.pipeline import Pipeline
from tests.property.profiles import examples

imports = st.lists(valid_rows() | arbitrary_rows, min_size=1, max_size=5)


@examples(25)
@given(imports, st.booleans(), st.lists(st.booleans(), min_size=5, max_size=5))
def test_invariants_2_and_5_every_row_of_an_accepted_import_settles(
    pool: Database,
    run: Run,
    rows: list[dict[str, Any]],
    ascii_only: bool,
    has_board: list[bool],
) -> None:
    pipeline = Pipeline(pool)
    workspace = run(pipeline.create_workspace())
    for row, is_known in zip(rows, has_board, strict=False):
        if is_known:
            row |= {"account_id": str(workspace.account_id), "board_id": "board"}
    document = json.dumps(rows, ensure_ascii=ascii_only).encode(errors="replace")
    check_job(run(pipeline.import_json(workspace.id, document)), total=len(rows))


@examples(25)
@given(mutated(imports.map(lambda rows: json.dumps(rows).encode())))
def test_invariants_2_and_5_a_damaged_import_is_rejected_or_settles(
    pool: Database, run: Run, document: bytes
) -> None:
    pipeline = Pipeline(pool)
    workspace = run(pipeline.create_workspace())
    try:
        job = run(pipeline.import_json(workspace.id, document))
    except ApiError:
        return
    check_job(job, total=job["total_rows"])


def check_job(job: Row, *, total: int) -> None:
    results = orjson.loads(job["results"])
    assert [result["row_number"] for result in results] == list(range(1, total + 1))
    assert (
        job["total_rows"]
        == job["created_rows"] + job["existing_rows"] + job["failed_rows"]
        == total
    )
    assert job["completed_at"] is not None
    for result in results:
        assert (result["status"] == "failed") is (result["error_message"] is not None)
        assert (result["pin_id"] or result["schedule_id"]) or result["status"] == "failed"
