"""HTTP models of schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.publisher.pins.request_bodies import CONTENT_FIELDS
from services.publisher.pins.statuses import ScheduleStatus, translate_schedule_state
from shared.contract.schedule_ids import derive_schedule_id

_PAYLOAD = tuple(name for name in CONTENT_FIELDS if name != "run_at")


class ScheduleResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    pinterest_account_id: UUID
    run_at: datetime
    status: ScheduleStatus
    payload: dict[str, Any]
    last_error: str | None
    pin_id: UUID | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ScheduleResponse":
        return cls(
            id=derive_schedule_id(row["pin_id"]),
            workspace_id=row["workspace_id"],
            pinterest_account_id=row["account_id"],
            run_at=row["run_at"],
            status=translate_schedule_state(row["state"], is_due=row["is_due"]),
            payload={name: row[name] for name in _PAYLOAD if row[name] is not None},
            last_error=row["error_message"],
            pin_id=row["pin_id"] if row["published_at"] is not None else None,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
