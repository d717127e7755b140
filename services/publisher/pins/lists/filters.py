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
        description="Text to find in title, description or link_url, in upper or lower case. "
        "There are no wildcards."
    ),
]


class PinFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        PinStatus | None,
        Field(
            description="No pin of Pinflow is `deferred` or `publishing`: these are PinBridge's."
        ),
    ] = None
    error_code: Annotated[
        Text | None, Field(description="Only pins that failed with this code.")
    ] = None
    since: Annotated[Instant | None, Field(description="The earliest created_at, inclusive.")] = (
        None
    )
    until: Annotated[Instant | None, Field(description="The latest created_at, exclusive.")] = None
    q: SearchText = None
    removed: Annotated[
        bool | None,
        Field(description="True: only pins that were deleted on Pinterest. Pinflow knows of none."),
    ] = None
    sort: PinSort = PinSort.CREATED_AT_DESC


class ScheduleFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        ScheduleStatus | None,
        Field(
            description="No schedule of Pinflow is `deferred` or `running`: these are PinBridge's."
        ),
    ] = None
    since: Annotated[Instant | None, Field(description="The earliest run_at, inclusive.")] = None
    until: Annotated[Instant | None, Field(description="The latest run_at, exclusive.")] = None
    q: SearchText = None
    sort: ScheduleSort = ScheduleSort.RUN_AT_DESC
