"""Two requests with one idempotency key are the same if a hash of what was sent is the same."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.parsing.policy import ImportParameters, PastRunAt
from services.ingest.submissions import (
    MAX_EVENT_LOOP_BYTES,
    ImportSubmission,
    submit_csv,
    submit_json,
    submit_rows,
)
from shared.contract.events import OnExisting, SourceType, UploadParameters

WORKSPACE = UUID("6f1c2d4e-93a7-4a55-8a0b-5f5f1f0f3c21")
CSV = b"title\nLamp\n"


def submit(**parameters: Any) -> ImportSubmission:
    return submit_csv(WORKSPACE, CSV, "a.csv", ImportParameters(**parameters))


@pytest.mark.parametrize(
    "same",
    [
        submit(),
        submit_csv(WORKSPACE, CSV, None),
        submit_csv(WORKSPACE, CSV, "b.csv", account_ids=frozenset({uuid4()})),
        submit(strict=False, past_run_at=PastRunAt.PUBLISH, on_existing=OnExisting.REPORT),
        submit(account=" "),
    ],
)
async def test_name_and_defaults_do_not_count(same: ImportSubmission) -> None:
    assert await same.compute_hash() == await submit().compute_hash()


async def test_every_parameter_the_bytes_and_the_endpoint_count() -> None:
    different = [
        submit(),
        submit(strict=True),
        submit(timezone="Europe/Berlin"),
        submit(past_run_at=PastRunAt.FAIL),
        submit(account="My shop"),
        submit(encoding="utf-8"),
        submit(on_existing=OnExisting.UPDATE),
        submit(on_existing=OnExisting.REVIVE),
        submit_csv(WORKSPACE, CSV + b"\n", "a.csv"),
        submit_json(WORKSPACE, CSV),
        submit_rows(WORKSPACE, [{}], source_type=SourceType.CSV, filename=None),
        submit_rows(
            WORKSPACE, [{}], source_type=SourceType.CSV, filename=None, parent_id=WORKSPACE
        ),
    ]
    hashes = {await submission.compute_hash() for submission in different}
    assert len(hashes) == len(different)


async def test_the_hash_of_a_large_body_is_computed_in_the_same_way() -> None:
    large = b" " * (MAX_EVENT_LOOP_BYTES + 1)
    submission = submit_json(WORKSPACE, large)
    assert await submission.compute_hash() == submission._compute_hash()


def test_an_upload_is_stored_with_every_parameter() -> None:
    assert set(ImportParameters._fields) == set(UploadParameters.__struct_fields__)
    parameters = ImportParameters(
        strict=True,
        timezone="Europe/Berlin",
        past_run_at=PastRunAt.FAIL,
        account=" My shop ",
        encoding="utf-16",
        on_existing=OnExisting.REVIVE,
    )
    assert parameters.to_event() == UploadParameters(
        strict=True,
        timezone="Europe/Berlin",
        past_run_at="fail",
        account="My shop",
        encoding="utf-16",
        on_existing=OnExisting.REVIVE,
    )
