"""HTTP models: the fields of pinbridge-sdk 1.10.1, then those that Pinflow adds."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from services.ingest.admission.control import RowQuota
from services.ingest.model import Import
from shared.contract.events import JobStatus, Notice, SourceType


class ImportAcceptedResponse(BaseModel):
    """A job that has just been accepted: it is queued and no row is settled."""

    id: UUID
    workspace_id: UUID
    source_type: SourceType
    status: JobStatus = JobStatus.QUEUED
    source_filename: str | None
    total_rows: int
    processed_rows: int = 0
    created_rows: int = 0
    existing_rows: int = 0
    failed_rows: int = 0
    results: Annotated[list[None], Field(max_length=0)] = []
    """Always empty: no row is settled yet."""
    error_message: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice]
    publishing_now: int
    scheduled_for_later: int

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


class RateMeterNode(BaseModel):
    """Counts rows: `tokens_available` of `capacity` may still be accepted.

    `refill_rate` is the number of rows that were settled per second, as last measured; 0 while
    unknown.
    """

    tokens_available: float
    capacity: float
    refill_rate: float

    @classmethod
    def from_quota(cls, quota: RowQuota) -> "RateMeterNode":
        return cls(
            tokens_available=quota.available,
            capacity=quota.capacity,
            refill_rate=quota.settlement_rate,
        )


class RateMeterAccount(RateMeterNode):
    account_id: str


class RateMeterResponse(BaseModel):
    account: RateMeterAccount
    global_: Annotated[RateMeterNode, Field(serialization_alias="global")]

    @classmethod
    def from_quotas(
        cls, account_id: UUID, workspace: RowQuota, system: RowQuota
    ) -> "RateMeterResponse":
        account = RateMeterAccount(
            account_id=str(account_id), **RateMeterNode.from_quota(workspace).model_dump()
        )
        return cls(account=account, global_=RateMeterNode.from_quota(system))
