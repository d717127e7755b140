"""The lists of pins and schedules: by which indexes their rows are found, and what is then looked
at in each.
"""

from typing import Any

from services.publisher.pins.filters import PinFilters, ScheduleFilters
from services.publisher.pins.schemas.pins import PinStatus
from services.publisher.pins.schemas.schedules import ScheduleStatus
from services.publisher.pins.sorting import FOLDED, IS_DUE, order_of_pins, order_of_schedules
from shared.access.model import Principal
from shared.http.pagination.pages import Lists
from shared.http.pagination.search import NOTHING, Order, Page, Search, Walk

# Each by an index of its own (migration 0007). `like`, not `=`: or a planner might take pins_due
# for it, which is everybody's
_NOT_PUBLISHED = "deleted_at is null and run_at is not null and state like 'scheduled'"
SHOWN = Walk("deleted_at is null and state in ('published', 'failed')", "created_at")
FAILED = Walk("deleted_at is null and state = 'failed'", "created_at")
SCHEDULED = Walk("deleted_at is null and run_at is not null", "run_at")
PAST = Walk(f"{SCHEDULED.where} and run_at <= now()", "run_at")
"""Of schedules: nothing is published, or fails, before it is due."""
WAITING = Walk(f"{_NOT_PUBLISHED} and run_at > now()", "run_at")
_ADVICE = "GET /v1/schedules?status=queued has those that are due, in the order of run_at."
DUE = Walk(f"{_NOT_PUBLISHED} and run_at <= now()", "run_at", _ADVICE)

_PINS: dict[PinStatus | None, tuple[Walk, ...]] = {
    None: (SHOWN, DUE),
    PinStatus.QUEUED: (DUE,),
    PinStatus.PUBLISHED: (SHOWN,),
    PinStatus.FAILED: (FAILED,),
}
_SCHEDULES: dict[ScheduleStatus | None, tuple[Walk, ...]] = {
    None: (SCHEDULED,),
    ScheduleStatus.SCHEDULED: (WAITING,),
    ScheduleStatus.QUEUED: (DUE,),
    ScheduleStatus.DONE: (PAST,),
    ScheduleStatus.FAILED: (PAST,),
    ScheduleStatus.CANCELED: (SCHEDULED,),
}
_STATES = {
    "published": "published",
    "failed": "failed",
    "done": "published",
    "canceled": "cancelled",
}
"""Of statuses that a walk's rows have among others."""
_FOUND = " or ".join(
    f"strpos(lower({column} {FOLDED}), lower(cast(%(q)s as text) {FOLDED})) > 0"
    for column in ("title", "description", "link_url")
)


class PinLists:
    """Of what the key may see.

    Raises RequestRefused (422) for a cursor that fits not, and for a search that is too wide.
    """

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def pins(self, who: Principal, asked: PinFilters) -> Page:
        """What is published, failed, or due."""
        walks = _PINS.get(asked.status, ())
        if asked.error_code is not None:
            walks = (FAILED,) if asked.status in {None, PinStatus.FAILED} else ()
        if asked.removed:
            walks = ()
        return await self._page(who, asked, walks, order_of_pins(asked.sort), window="created_at")

    async def schedules(self, who: Principal, asked: ScheduleFilters) -> Page:
        """What has a time to be published at, or had one."""
        walks = _SCHEDULES.get(asked.status, ())
        return await self._page(who, asked, walks, order_of_schedules(asked.sort), window="run_at")

    async def _page(
        self,
        who: Principal,
        asked: PinFilters | ScheduleFilters,
        walks: tuple[Walk, ...],
        order: Order,
        *,
        window: str,
    ) -> Page:
        after = asked.after(order)
        is_permitted = who.account_ids != frozenset() and (
            asked.account_id is None or who.permits(asked.account_id)
        )
        if not walks or not is_permitted:
            return NOTHING
        conditions, values = _narrowed(who, asked)
        search = Search(
            table="publisher.pins",
            id="pin_id",
            walks=walks,
            order=order,
            window=window,
            since=asked.since,
            until=asked.until,
            conditions=conditions,
            values=values,
            also=f"{IS_DUE} as is_due",
        )
        return await self._lists.page(search, limit=asked.limit, offset=asked.offset, after=after)


def _narrowed(
    who: Principal, asked: PinFilters | ScheduleFilters
) -> tuple[list[str], dict[str, Any]]:
    """The conditions on each row that is looked at, cheap ones first, and the values that they
    name.
    """
    values = {
        "workspace_id": who.workspace_id,
        "account_id": asked.account_id,
        "permitted": None if who.account_ids is None else list(who.account_ids),
        "board_id": asked.board_id,
        "state": _STATES.get(asked.status or ""),
        "error_code": asked.error_code if isinstance(asked, PinFilters) else None,
        "q": asked.q or None,
    }
    conditions = {
        "account_id": "account_id = %(account_id)s",
        "permitted": "account_id = any(%(permitted)s)",
        "board_id": "board_id = %(board_id)s",
        "state": "state = %(state)s",
        "error_code": "error_code = %(error_code)s",
        "q": f"({_FOUND})",
    }
    return [sql for name, sql in conditions.items() if values[name] is not None], values
