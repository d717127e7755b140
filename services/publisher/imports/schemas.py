"""The bodies of the internal routes of imports."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from services.publisher.imports.rules import LeftReason, UndoAction
from shared.contract.events import MAX_ROWS
from shared.http.models import ApiModel
from shared.http.pagination.parameters import MAX_PAGE_ITEMS

RowNumber = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class ImportReference(ApiModel):
    """An import. The caller has checked that it belongs to the workspace."""

    workspace_id: UUID
    job_id: UUID
    accepted_at: AwareDatetime
    """When the import was accepted, exactly: the times of its pins follow from it."""


class CancelRequest(ImportReference):
    cancel_schedules: bool = False
    """True: cancels the import's waiting schedules too, and withdraws its queued pins."""
    account_ids: frozenset[UUID] | None = None
    """The accounts that the API key may use. Null: all."""


class UndoRequest(ImportReference):
    dry_run: bool = False
    """True: only says what an undo would do."""
    account_ids: frozenset[UUID] | None = None
    """The accounts that the API key may use. Null: all."""


class RowReference(ImportReference):
    row_number: RowNumber


class UndoneImports(ApiModel):
    """Imports of a workspace that may have been undone."""

    workspace_id: UUID
    job_ids: Annotated[list[UUID], Field(max_length=MAX_PAGE_ITEMS)]


class LeftPin(ApiModel):
    row_number: int
    pin_id: UUID | None = None
    """Null if there is only a schedule."""
    schedule_id: UUID | None = None
    reason: LeftReason


class UndonePin(ApiModel):
    row_number: int
    pin_id: UUID | None = None
    """Null if there was only a schedule."""
    schedule_id: UUID | None = None
    action: UndoAction


class CanceledSchedule(ApiModel):
    row_number: int
    schedule_id: UUID


class WithdrawnPin(ApiModel):
    row_number: int
    pin_id: UUID


class CancelResponse(ApiModel):
    """A cancellation. The rows that it fails settle later."""

    canceled_at: datetime
    """When the import was canceled first."""
    canceled_schedules: list[CanceledSchedule]
    withdrawn_pins: list[WithdrawnPin]
    """The pins without a schedule that are never sent to Pinterest."""
    left: list[LeftPin]


class UndoResponse(ApiModel):
    """An undo, or what it would do."""

    undo_id: UUID | None
    """Null in a dry run of an import that was not undone yet."""
    undone_at: datetime | None
    """When it was undone first. Null in a dry run of an import that was not undone yet."""
    is_replay: bool
    """True if the import was undone before: this is the record of that undo."""
    undone: list[UndonePin]
    left: list[LeftPin]


class UndoSummary(ApiModel):
    """Counts what an undo of an import deleted, is to remove, and left."""

    job_id: UUID
    undone_at: datetime
    undone_rows: int
    removing_rows: int
    """The undone rows whose pins are still to be removed from Pinterest."""
    left_rows: int


class UndoSummaries(ApiModel):
    undos: list[UndoSummary]
    """One for each import that was undone."""


class RowResponse(ApiModel):
    """The store's content for a row. There is none until the row settles."""

    outcome: dict[str, Any] | None
    """The row's recorded outcome. Null for a usual row: its pin says what it became."""
    pin: dict[str, Any] | None
    """The pin that the row created, with its times."""
    canceled_at: datetime | None
    """When the import was canceled."""
    attempts: list[dict[str, Any]]
    """The last attempts to create the pin on Pinterest, at most 20, the earliest first."""
