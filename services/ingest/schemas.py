"""HTTP models: the fields of pinbridge-sdk 1.10.1, then those that Pinflow adds."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from msgspec.structs import asdict
from pydantic import BeforeValidator, ConfigDict, Field, RootModel, WithJsonSchema

from services.ingest.admission.control import Quota
from services.ingest.checks import CheckedImport
from services.ingest.parsing.policy import ImportParameters
from shared.contract.events import (
    MAX_ROWS,
    ImportAccepted,
    JobStatus,
    Notice,
    SourceType,
)
from shared.contract.pins import PinSubmission
from shared.contract.wire import encode
from shared.http.fields import CreatedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel
from shared.http.rate_meter import RateMeterNode
from shared.http.row_results import RowResultResponse, hide_stored_values


class ImportRows(
    RootModel[Annotated[list[PinSubmission], Field(min_length=1, max_length=MAX_ROWS)]]
):
    """The rows of an import, 1 to 500.

    Each row is judged on its own. A row that breaks a rule fails with a list of its faults, at most
    20. The other rows are not affected, and the answer is still 202. With the parameter `account`,
    rows need no `account_id`.
    """


class CsvUpload(ApiModel):
    """A CSV file with a header and 1 to 500 rows. `curl -F file=@campaign.csv` sends it.

    Each row is judged on its own, as in an import of JSON. Other form fields are refused.
    """

    model_config = ConfigDict(extra="forbid")

    file: Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]
    """The file. Its columns are the fields of a row; docs/how-to/import-a-spreadsheet.md describes
    them."""


class ImportAcceptedResponse(ApiModel):
    """A job that has just been accepted: it is queued and no row is settled."""

    id: UUID
    """The job's id, for `GET /v1/pins/imports/{job_id}`."""
    workspace_id: WorkspaceId
    source_type: SourceType
    status: JobStatus = JobStatus.QUEUED
    """Always `queued`: Pinflow has accepted the rows, and settles them in the background."""
    source_filename: str | None
    """The name of the uploaded file. Null for JSON, and for a file without a name."""
    total_rows: int
    """Rows in the import, 1 to 500. Each of them will have a result."""
    processed_rows: int = 0
    """Always 0: no row is settled yet."""
    created_rows: int = 0
    """Always 0: no row is settled yet."""
    existing_rows: int = 0
    """Always 0: no row is settled yet."""
    failed_rows: int = 0
    """Always 0: no row is settled yet, not even one that failed validation."""
    results: list[None] = Field(default=[], max_length=0)
    """Always empty: no row is settled yet."""
    error_message: str | None = None
    """Always null: an import that can't be accepted is answered with an error."""
    started_at: datetime | None = None
    """Always null: no row is settled yet."""
    completed_at: datetime | None = None
    """Always null: the import has not ended."""
    created_at: CreatedAt
    updated_at: UpdatedAt
    warnings: list[Notice]
    """Everything that was ignored, repaired or guessed. Empty if nothing was."""
    publishing_now: int
    """Valid rows that are published at once: without `run_at`, or with one that has passed."""
    scheduled_for_later: int
    """Valid rows that wait for their `run_at`."""

    @classmethod
    def from_event(cls, event: ImportAccepted) -> "ImportAcceptedResponse":
        return cls(
            id=event.job_id,
            workspace_id=event.workspace_id,
            source_type=event.source_type,
            source_filename=event.source_filename,
            total_rows=event.total_rows,
            created_at=event.accepted_at,
            updated_at=event.accepted_at,
            warnings=event.warnings,
            publishing_now=event.publishing_now or 0,
            scheduled_for_later=event.scheduled_for_later or 0,
        )


class ImportCheckResponse(ApiModel):
    """The result that an import would have if it were sent now. Nothing was stored.

    The fields mean what they mean in a job that has ended.
    """

    dry_run: Literal[True] = True
    """Always true."""
    workspace_id: WorkspaceId
    source_type: SourceType
    source_filename: str | None
    """The name of the uploaded file. Null for JSON, and for a file without a name."""
    total_rows: int
    """Rows in the import, 1 to 500."""
    created_rows: int
    """Rows that would be published or scheduled."""
    existing_rows: int
    """Rows whose idempotency key already has a pin or a schedule, or an earlier row of the import.
    """
    failed_rows: int
    """Rows that would fail. Their idempotency keys would stay free."""
    results: list[RowResultResponse]
    """The result that each row would have, in row order. An import gives the same ids, as long as
    nobody else takes the keys."""
    checked_at: datetime
    """When the import was checked, in UTC. Each `run_at` was compared with this time."""
    warnings: list[Notice]
    """Everything that would be ignored, repaired or guessed. Empty if nothing would be."""
    publishing_now: int
    """Valid rows without `run_at`, or with one that has passed. As in the job, rows that exist
    already or whose board is unknown are included: `results` says what would be published."""
    scheduled_for_later: int
    """Valid rows that would wait for their `run_at`, with the same rows included."""


def build_check_document(checked: CheckedImport, *, with_values: bool) -> dict[str, Any]:
    """Builds an ImportCheckResponse for orjson.

    Without `with_values`, the results name differing fields as `hide_stored_values` leaves them.
    """
    results = encode(checked.results)
    return {
        "dry_run": True,
        **{name: getattr(checked, name) for name in _CHECKED_FIELDS},
        "warnings": [asdict(warning) for warning in checked.warnings],
        "results": orjson.Fragment(results if with_values else hide_stored_values(results)),
    }


_CHECKED_FIELDS = tuple(
    name
    for name in ImportCheckResponse.model_fields
    if name not in {"dry_run", "warnings", "results"}
)


def _drop_nulls(parameters: object) -> object:
    if not isinstance(parameters, dict):
        return parameters
    return {name: value for name, value in parameters.items() if value is not None}


class RetryRequest(ApiModel):
    """Failed rows of an earlier import that status sends again. An internal route has it."""

    workspace_id: UUID
    key: Annotated[str, Field(min_length=1)]
    """The retry's idempotency key: the same rows and corrections have the same key."""
    parent_id: UUID
    """The earlier import."""
    source_type: SourceType
    source_filename: str | None = None
    rows: Any
    """The rows, as a JSON import has them."""
    lines: list[int] | None = None
    """The line of each row in the CSV file of the earlier import."""
    parameters: Annotated[ImportParameters, BeforeValidator(_drop_nulls)] = ImportParameters()
    """The parameters of the earlier import."""
    account_ids: frozenset[UUID] | None = None
    """The accounts that the API key may publish to. Null: all."""


class RetryAcceptedResponse(ImportAcceptedResponse):
    """The answer to a RetryRequest."""

    is_replay: bool
    """True if an earlier request with the key has made the import."""


class RateMeterAccount(RateMeterNode):
    """The limit of the workspace, the same for all of its accounts. The limit of the account, if it
    was ever connected to Pinterest."""

    account_id: str
    """The account that was asked for."""


class RateMeterResponse(ApiModel):
    """The number of rows that may be imported now, before imports get 429. For a connected account
    the number of pins that may be sent to Pinterest now."""

    account: RateMeterAccount
    """The limit of the account's workspace, or of the account at Pinterest."""
    global_: Annotated[RateMeterNode, Field(serialization_alias="global")]
    """The limit of the whole installation."""

    @classmethod
    def from_quotas(
        cls, account_id: UUID, account: Quota, installation: Quota
    ) -> "RateMeterResponse":
        """Builds the answer. `account` is the quota of the account or of its workspace."""
        node = RateMeterAccount(account_id=str(account_id), **_describe_quota(account).model_dump())
        return cls(account=node, global_=_describe_quota(installation))


def _describe_quota(quota: Quota) -> RateMeterNode:
    return RateMeterNode(
        tokens_available=quota.available,
        capacity=quota.capacity,
        refill_rate=quota.refill_rate,
    )
