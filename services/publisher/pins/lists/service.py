"""Lists pins and schedules: selects the index scans of a list and the conditions on its rows."""

from typing import Any

from services.publisher.creation_times import find_creation_window
from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.lists.filters import PinFilters, ScheduleFilters
from services.publisher.pins.lists.sorting import (
    COLLATION,
    IS_DEFERRED,
    IS_DUE,
    build_pin_order,
    build_schedule_order,
)
from services.publisher.pins.statuses import PinStatus, ScheduleStatus
from services.publisher.tables import IS_DELIVERING, IS_SHOWN
from shared.access.model import Principal
from shared.http.pagination.list_query import EMPTY_PAGE, IndexScan, ListQuery, Page, SortOrder
from shared.http.pagination.paginator import Paginator

# Each scan reads one of the indexes of migrations 0007, 0016 and 0021. `like` instead of `=` keeps
# the planner from using pins_due, an index of all workspaces' rows
_NOT_PUBLISHED = "deleted_at is null and run_at is not null and state like 'scheduled'"
PUBLISHED_OR_FAILED = IndexScan(IS_SHOWN, "created_at")
DELIVERING = IndexScan(IS_DELIVERING, "created_at")
"""Pins on their way to Pinterest. Only connected accounts have any."""
REMOVED = IndexScan("deleted_at is null and removed_at is not null", "created_at")
FAILED = IndexScan("deleted_at is null and state = 'failed'", "created_at")
SCHEDULED = IndexScan("deleted_at is null and run_at is not null", "run_at")
RUN_AT_PASSED = IndexScan(f"{SCHEDULED.where} and run_at <= now()", "run_at")
"""Schedules whose run_at has passed: no schedule is published or fails before its run_at."""
WAITING = IndexScan(f"{_NOT_PUBLISHED} and run_at > now()", "run_at")
DELIVERING_SCHEDULES = IndexScan(f"{DELIVERING.where} and run_at is not null", "run_at")
_ADVICE = "Use GET /v1/schedules?status=queued to list due pins, in the order of run_at."
DUE = IndexScan(f"{_NOT_PUBLISHED} and run_at <= now()", "run_at", _ADVICE)

_OF_JOB = "created_at >= %(accepted_from)s and created_at < %(created_until)s"
# Implies IS_NOT_SHOWN, so it reads that index
_NOT_SHOWN_OF_JOB = f"deleted_at is null and state in ('scheduled', 'cancelled') and {_OF_JOB}"
_SHOWN_OF_JOB = f"{PUBLISHED_OR_FAILED.where} and {_OF_JOB}"
_DELIVERING_OF_JOB = f"{DELIVERING.where} and {_OF_JOB}"
_SCANS_OF_JOB: dict[IndexScan, tuple[IndexScan, ...]] = {
    PUBLISHED_OR_FAILED: (IndexScan(_SHOWN_OF_JOB, "created_at"),),
    DELIVERING: (IndexScan(_DELIVERING_OF_JOB, "created_at"),),
    DELIVERING_SCHEDULES: (
        IndexScan(f"{_DELIVERING_OF_JOB} and run_at is not null", "created_at"),
    ),
    REMOVED: (IndexScan(f"{REMOVED.where} and {_OF_JOB}", "created_at"),),
    FAILED: (IndexScan(f"{FAILED.where} and {_OF_JOB}", "created_at"),),
    SCHEDULED: (
        IndexScan(f"{_SHOWN_OF_JOB} and run_at is not null", "created_at"),
        IndexScan(_NOT_SHOWN_OF_JOB, "created_at"),
        IndexScan(f"{_DELIVERING_OF_JOB} and run_at is not null", "created_at"),
    ),
    RUN_AT_PASSED: (IndexScan(f"{_SHOWN_OF_JOB} and run_at is not null", "created_at"),),
    WAITING: (
        IndexScan(
            f"{_NOT_SHOWN_OF_JOB} and state like 'scheduled' and run_at > now()", "created_at"
        ),
    ),
    DUE: (
        IndexScan(
            f"{_NOT_SHOWN_OF_JOB} and state like 'scheduled' and run_at <= now()", "created_at"
        ),
    ),
}
"""The scans that find only pins of one import, by the scan that they replace.

A pin's `created_at` tells when its import was accepted, so each reads few rows of others.
"""

_PINS: dict[PinStatus | None, tuple[IndexScan, ...]] = {
    None: (PUBLISHED_OR_FAILED, DELIVERING, DUE),
    PinStatus.QUEUED: (DELIVERING, DUE),
    PinStatus.DEFERRED: (DELIVERING,),
    PinStatus.PUBLISHING: (DELIVERING,),
    PinStatus.PUBLISHED: (PUBLISHED_OR_FAILED,),
    PinStatus.FAILED: (FAILED,),
}
_SCHEDULES: dict[ScheduleStatus | None, tuple[IndexScan, ...]] = {
    None: (SCHEDULED,),
    ScheduleStatus.SCHEDULED: (WAITING,),
    ScheduleStatus.QUEUED: (DUE, DELIVERING_SCHEDULES),
    ScheduleStatus.DEFERRED: (DELIVERING_SCHEDULES,),
    ScheduleStatus.RUNNING: (DELIVERING_SCHEDULES,),
    ScheduleStatus.DONE: (RUN_AT_PASSED,),
    ScheduleStatus.FAILED: (RUN_AT_PASSED,),
    ScheduleStatus.CANCELED: (SCHEDULED,),
}
_STATUS_CONDITIONS = {
    "published": "state = 'published'",
    "failed": "state = 'failed'",
    "done": "state = 'published'",
    "canceled": "state = 'cancelled'",
    "queued": f"state in ('scheduled', 'queued') and not {IS_DEFERRED}",
    "deferred": IS_DEFERRED,
    "publishing": "state in ('publishing', 'confirming')",
    "running": "state in ('publishing', 'confirming')",
}
"""Selects rows by status. Only scans that also find rows of other statuses need it."""
_DEFERRABLE = frozenset({"queued", "deferred"})
"""The statuses that depend on the pauses of accounts and of the app."""
_TEXT_MATCHES = " or ".join(
    f"strpos(lower({column} {COLLATION}), lower(cast(%(q)s as text) {COLLATION})) > 0"
    for column in ("title", "description", "link_url")
)


class PinListService:
    """Lists the pins and schedules that an API key may see.

    Raises ApiError (422) for a cursor of another list, and for a query that is too wide.
    """

    def __init__(self, paginator: Paginator, deferrals: DeferralReader) -> None:
        self._paginator = paginator
        self._deferrals = deferrals

    async def list_pins(self, principal: Principal, query: PinFilters) -> Page:
        """Lists pins that are published, failed or due. Due pins may wait for their delivery."""
        scans = _PINS.get(query.status, ())
        if query.error_code is not None:
            scans = (FAILED,) if query.status in {None, PinStatus.FAILED} else ()
        if query.removed:
            is_possible = PUBLISHED_OR_FAILED in scans
            scans = (REMOVED,) if is_possible else ()
        return await self._read_page(
            principal, query, scans, build_pin_order(query.sort), window_column="created_at"
        )

    async def list_schedules(self, principal: Principal, query: ScheduleFilters) -> Page:
        """Lists schedules in any state."""
        scans = _SCHEDULES.get(query.status, ())
        return await self._read_page(
            principal, query, scans, build_schedule_order(query.sort), window_column="run_at"
        )

    async def _read_page(
        self,
        principal: Principal,
        query: PinFilters | ScheduleFilters,
        scans: tuple[IndexScan, ...],
        order: SortOrder,
        *,
        window_column: str,
    ) -> Page:
        after = query.decode_cursor(order)
        is_permitted = principal.account_ids != frozenset() and (
            query.account_id is None or principal.permits(query.account_id)
        )
        if not scans or not is_permitted:
            return EMPTY_PAGE
        conditions, values = _build_conditions(principal, query)
        values |= await self._read_pause_values(principal, query)
        if query.job_id is not None:
            if (window := find_creation_window(query.job_id)) is None:
                return EMPTY_PAGE
            scans = tuple(scan for replaced in scans for scan in _SCANS_OF_JOB[replaced])
            values |= window._asdict()
        list_query = ListQuery(
            table="publisher.pins",
            id_column="pin_id",
            scans=scans,
            order=order,
            window_column=window_column,
            since=query.since,
            until=query.until,
            conditions=conditions,
            values=values,
            extra_columns=f"{IS_DUE} as is_due",
        )
        return await self._paginator.page(
            list_query, limit=query.limit, offset=query.offset, after=after
        )

    async def _read_pause_values(
        self, principal: Principal, query: PinFilters | ScheduleFilters
    ) -> dict[str, Any]:
        """Reads the values of IS_DEFERRED, if the list's status or order depends on them."""
        if query.status not in _DEFERRABLE and not query.sort.startswith("status"):
            return {}
        pauses = await self._deferrals.read_pauses_of_workspace(principal.workspace_id)
        return {
            "app_is_paused": pauses.app is not None,
            "paused_accounts": list(pauses.accounts),
        }


def _build_conditions(
    principal: Principal, query: PinFilters | ScheduleFilters
) -> tuple[list[str], dict[str, Any]]:
    """Builds the conditions on each row, the cheap ones first, and their values."""
    values = {
        "workspace_id": principal.workspace_id,
        "account_id": query.account_id,
        "job_id": query.job_id,
        "permitted": None if principal.account_ids is None else list(principal.account_ids),
        "board_id": query.board_id,
        "status": query.status,
        "removed": query.removed if isinstance(query, PinFilters) else None,
        "error_code": query.error_code if isinstance(query, PinFilters) else None,
        "q": query.q or None,
    }
    conditions = {
        "job_id": "origin_job_id = %(job_id)s",
        "account_id": "account_id = %(account_id)s",
        "permitted": "account_id = any(%(permitted)s)",
        "board_id": "board_id = %(board_id)s",
        "status": _STATUS_CONDITIONS.get(query.status or "", "true"),
        "removed": f"removed_at is {'not ' if values['removed'] else ''}null",
        "error_code": "error_code = %(error_code)s",
        "q": f"({_TEXT_MATCHES})",
    }
    return [sql for name, sql in conditions.items() if values[name] is not None], values
