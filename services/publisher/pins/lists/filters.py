"""Query parameters of the lists of pins and schedules, named as in PinBridge."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from services.publisher.pins.statuses import PinStatus, ScheduleStatus
from shared.contract.pin_fields import Instant
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
    account_id: Annotated[
        UUID | None, Field(description="Only pins for this Pinterest account.")
    ] = None
    board_id: Annotated[Text | None, Field(description="Only pins for this board.")] = None
    status: Annotated[
        PinStatus | None,
        Field(description="Only pins in this state."),
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
    job_id: Annotated[UUID | None, Field(description="Only pins that this import created.")] = None
    q: SearchText = None
    removed: Annotated[
        bool | None,
        Field(
            description="True: only pins that Pinflow removed from Pinterest, and that are not "
            "deleted in Pinflow. False: only the others."
        ),
    ] = None
    sort: Annotated[PinSort, Field(description="The order of the list.")] = PinSort.CREATED_AT_DESC


class ScheduleFilters(PageParameters):
    account_id: Annotated[
        UUID | None, Field(description="Only schedules for this Pinterest account.")
    ] = None
    board_id: Annotated[Text | None, Field(description="Only schedules for this board.")] = None
    status: Annotated[
        ScheduleStatus | None,
        Field(description="Only schedules in this state."),
    ] = None
    since: Annotated[
        Instant | None, Field(description="Only schedules whose run_at is at this time or later.")
    ] = None
    until: Annotated[
        Instant | None, Field(description="Only schedules whose run_at is before this time.")
    ] = None
    job_id: Annotated[
        UUID | None, Field(description="Only schedules that this import created.")
    ] = None
    q: SearchText = None
    sort: Annotated[ScheduleSort, Field(description="The order of the list.")] = (
        ScheduleSort.RUN_AT_DESC
    )
