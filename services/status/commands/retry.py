"""Builds the request with which ingest imports failed rows again. No I/O."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from services.status.commands.corrections import Corrections, build_fields, compute_digest
from services.status.uploads.files import require_permitted
from services.status.uploads.model import StoredUpload
from services.status.uploads.reading import read_upload
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import RowResult, RowStatus
from shared.postgres.row import Row

UNREPRESENTABLE: dict[str, Any] = {}
"""Replaces a value that JSON in UTF-8 can't represent, such as half of a surrogate pair. No field
accepts it, so its row fails again instead of losing the value silently."""


def build_retry(
    job: Row,
    results: Mapping[int, RowResult],
    upload: StoredUpload,
    corrections: Corrections,
    principal: Principal,
) -> dict[str, Any]:
    """Builds the document for ingest. Equal corrections of one job give the same key.

    Raises ApiError (403) if one of the rows may belong to an account that the API key may not use.
    """
    uploaded = read_upload(upload)
    failed = {
        number: row
        for number, row in enumerate(uploaded.rows, 1)
        if number in results and results[number].status is RowStatus.FAILED
    }
    # Before the corrections: they could move the content of another account's row to this one's
    require_permitted(list(failed.values()), principal.account_ids)
    rows = [build_fields(row, corrections.get(number, {})) for number, row in failed.items()]
    # The rows of an earlier retry are stored as JSON, but their results have lines
    lines = [row.line or results[number].line for number, row in failed.items()]
    account_ids = principal.account_ids
    return {
        "workspace_id": job["workspace_id"],
        "key": f"{job['job_id']}:{compute_digest(corrections)}",
        "parent_id": job["job_id"],
        "source_type": job["source_type"],
        "source_filename": job["source_filename"],
        "rows": [make_encodable(row) for row in rows],
        "lines": None if None in lines else lines,
        "parameters": msgspec.to_builtins(uploaded.parameters),
        "account_ids": None if account_ids is None else sorted(map(str, account_ids)),
    }


def require_failures(job: Row) -> None:
    """Raises ApiError (409) if the import has no failed rows."""
    if not job["failed_rows"]:
        raise ApiError(
            ErrorCode.NO_FAILED_ROWS,
            "This import has no failed rows. There is nothing to retry.",
            HTTPStatus.CONFLICT,
        )


def make_encodable(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row with only values that JSON can represent."""
    if _is_encodable(row):
        return row
    return {
        name: value if _is_encodable(value) else UNREPRESENTABLE
        for name, value in row.items()
        if _is_encodable(name)
    }


def _is_encodable(value: object) -> bool:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True
