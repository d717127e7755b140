"""HTTP models: the fields of pinbridge-sdk 1.10.1, then those that Pinflow adds."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field, RootModel, WithJsonSchema

from services.ingest.admission.control import RowQuota
from services.ingest.model import Import
from shared.contract.events import MAX_ROWS, JobStatus, Notice, SourceType
from shared.contract.pins import PinSubmission
from shared.http.fields import CreatedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel


class ImportRows(
    RootModel[Annotated[list[PinSubmission], Field(min_length=1, max_length=MAX_ROWS)]]
):
    """The rows of an import, 1 to 500.

    Each row is judged on its own. A row that breaks a rule fails with a list of its faults, at most
    20. The other rows are not affected, and the answer is still 202.
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
    def from_import(cls, accepted: Import) -> "ImportAcceptedResponse":
        return cls(
            id=accepted.job_id,
            workspace_id=accepted.workspace_id,
            source_type=accepted.source_type,
            source_filename=accepted.source_filename,
            total_rows=accepted.rows.total,
            created_at=accepted.accepted_at,
            updated_at=accepted.accepted_at,
            warnings=accepted.rows.warnings,
            publishing_now=accepted.rows.publishing_now,
            scheduled_for_later=accepted.rows.scheduled_for_later,
        )


class RateMeterNode(ApiModel):
    """A limit on rows that are accepted and not settled yet."""

    tokens_available: float
    """Rows that may still be accepted now."""
    capacity: float
    """The limit in rows. It equals `tokens_available` while no row waits."""
    refill_rate: float
    """Rows that were settled per second, as last measured. 0 while unknown."""

    @classmethod
    def from_quota(cls, quota: RowQuota) -> "RateMeterNode":
        return cls(
            tokens_available=quota.available,
            capacity=quota.capacity,
            refill_rate=quota.settlement_rate,
        )


class RateMeterAccount(RateMeterNode):
    """The limit of the workspace. It is the same for all of its accounts."""

    account_id: str
    """The account that was asked for."""


class RateMeterResponse(ApiModel):
    """The number of rows that may be imported now, before imports get 429."""

    account: RateMeterAccount
    """The limit of the account's workspace."""
    global_: Annotated[RateMeterNode, Field(serialization_alias="global")]
    """The limit of the whole installation."""

    @classmethod
    def from_quotas(
        cls, account_id: UUID, workspace: RowQuota, system: RowQuota
    ) -> "RateMeterResponse":
        account = RateMeterAccount(
            account_id=str(account_id), **RateMeterNode.from_quota(workspace).model_dump()
        )
        return cls(account=account, global_=RateMeterNode.from_quota(system))
