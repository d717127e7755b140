"""HTTP models of schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from services.publisher.pins.delivery_fields import find_deferral_of, find_reason
from services.publisher.pins.request_bodies import CONTENT_FIELDS
from services.publisher.pins.statuses import ScheduleStatus, translate_schedule_state
from shared.contract.schedule_ids import derive_schedule_id
from shared.http.fields import AccountId, CreatedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel

_PAYLOAD = tuple(name for name in CONTENT_FIELDS if name != "run_at")


class ScheduleResponse(ApiModel):
    """A pin for a later time, and what became of it."""

    id: UUID
    """The schedule's id. It depends only on the workspace and the idempotency key."""
    workspace_id: WorkspaceId
    pinterest_account_id: AccountId
    run_at: datetime
    """When the pin is to be published, in UTC."""
    status: ScheduleStatus
    payload: dict[str, Any]
    """The pin's content: the submitted fields that are not null, without `run_at`."""
    last_error: str | None
    """The reason why it failed or is deferred, and what to do. Null if there is none."""
    pin_id: UUID | None
    """The id of the published pin. Null until it is published."""
    created_at: CreatedAt
    updated_at: UpdatedAt

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ScheduleResponse":
        return cls(
            id=derive_schedule_id(row["pin_id"]),
            workspace_id=row["workspace_id"],
            pinterest_account_id=row["account_id"],
            run_at=row["run_at"],
            status=translate_schedule_state(
                row["state"],
                is_due=row["is_due"],
                is_deferred=find_deferral_of(row) is not None,
            ),
            payload={name: row[name] for name in _PAYLOAD if row[name] is not None},
            last_error=find_reason(row).message,
            pin_id=row["pin_id"] if row["published_at"] is not None else None,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
