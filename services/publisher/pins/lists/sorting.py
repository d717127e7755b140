"""Orders of the lists of pins and schedules, named as in PinBridge."""

from collections.abc import Mapping
from enum import StrEnum

from shared.http.pagination.list_query import SortKey, SortOrder

COLLATION = 'collate "pg_c_utf8"'
"""A collation that knows upper and lower case in every alphabet and orders by code points. It does
not depend on the database's locale.
"""


class PinSort(StrEnum):
    """The order of a list of pins: a field, then `asc` (ascending) or `desc` (descending)."""

    CREATED_AT_DESC = "created_at_desc"
    CREATED_AT_ASC = "created_at_asc"
    PUBLISHED_AT_DESC = "published_at_desc"
    PUBLISHED_AT_ASC = "published_at_asc"
    TITLE_ASC = "title_asc"
    TITLE_DESC = "title_desc"
    STATUS_ASC = "status_asc"
    STATUS_DESC = "status_desc"


class ScheduleSort(StrEnum):
    """The order of a list of schedules: a field, then `asc` (ascending) or `desc` (descending)."""

    RUN_AT_DESC = "run_at_desc"
    RUN_AT_ASC = "run_at_asc"
    CREATED_AT_DESC = "created_at_desc"
    CREATED_AT_ASC = "created_at_asc"
    TITLE_ASC = "title_asc"
    TITLE_DESC = "title_desc"
    STATUS_ASC = "status_asc"
    STATUS_DESC = "status_desc"


IS_DUE = "(state = 'scheduled' and run_at <= now())"
IS_DEFERRED = """(
    state = 'queued' and (
        coalesce(deferral_code is not null and deliver_after > now(), false) or %(app_is_paused)s
        or account_id = any(%(paused_accounts)s)
    )
)"""
"""A queued pin that find_deferral has a reason for. A list that uses it reads the pauses first."""
_CREATED_AT = SortKey("created_at", is_time=True)
_TITLE = SortKey(f"lower(title {COLLATION})")

# Statuses sort by the names that clients see
_PIN_STATUS = SortKey(
    f"case when {IS_DEFERRED} then 'deferred' when state = 'scheduled' then 'queued'"
    f" when state = 'confirming' then 'publishing' else state end {COLLATION}"
)
_SCHEDULE_STATUS = SortKey(
    f"case when {IS_DUE} then 'queued' when {IS_DEFERRED} then 'deferred'"
    f" when state = 'published' then 'done' when state in ('publishing', 'confirming') then"
    f" 'running' when state = 'cancelled' then 'canceled' else state end {COLLATION}"
)

_PIN_KEYS = {
    "created_at": _CREATED_AT,
    "published_at": SortKey("published_at", is_time=True, is_nullable=True),
    "title": _TITLE,
    "status": _PIN_STATUS,
}
_SCHEDULE_KEYS = {
    "run_at": SortKey("run_at", is_time=True),
    "created_at": _CREATED_AT,
    "title": _TITLE,
    "status": _SCHEDULE_STATUS,
}


def build_pin_order(sort: PinSort) -> SortOrder:
    return _build_order("pins", sort, _PIN_KEYS)


def build_schedule_order(sort: ScheduleSort) -> SortOrder:
    return _build_order("schedules", sort, _SCHEDULE_KEYS)


def _build_order(name: str, sort: str, keys: Mapping[str, SortKey]) -> SortOrder:
    key, _, direction = sort.rpartition("_")
    return SortOrder(f"{name}.{sort}", keys[key], descending=direction == "desc")
