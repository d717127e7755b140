"""Query parameters of the lists of pins and schedules, named as in PinBridge."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from services.publisher.pins.statuses import PinStatus, ScheduleStatus
from shared.contract.pins import Instant
from shared.http.pagination.parameters import PageParameters

Text = Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")]
SearchText = Annotated[
    Text | None,
    Field(
        description="Only items with this text in title, description or link_url. Upper and lower "
        "case are equal, and there are no wildcards."
    ),
]


class PinFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        PinStatus | None,
        Field(
            description="`deferred` and `publishing` exist only in PinBridge: they match no pin."
        ),
    ] = None
    error_code: Annotated[
        Text | None, Field(description="Only pins that failed with this code.")
    ] = None
    since: Annotated[
        Instant | None, Field(description="Only pins created at this time or later.")
    ] = None
    until: Annotated[Instant | None, Field(description="Only pins created before this time.")] = (
        None
    )
    q: SearchText = None
    removed: Annotated[
        bool | None,
        Field(
            description="True matches pins that were deleted on Pinterest. Pinflow knows of none."
        ),
    ] = None
    sort: PinSort = PinSort.CREATED_AT_DESC


class ScheduleFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        ScheduleStatus | None,
        Field(
            description="`deferred` and `running` exist only in PinBridge: they match no schedule."
        ),
    ] = None
    since: Annotated[
        Instant | None, Field(description="Only schedules whose run_at is at this time or later.")
    ] = None
    until: Annotated[
        Instant | None, Field(description="Only schedules whose run_at is before this time.")
    ] = None
    q: SearchText = None
    sort: ScheduleSort = ScheduleSort.RUN_AT_DESC
