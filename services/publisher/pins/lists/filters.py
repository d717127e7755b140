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
    Field(description="Literal text in title, description or link_url, in upper or lower case."),
]


class PinFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        PinStatus | None,
        Field(description="`deferred` and `publishing` are PinBridge's: none here is either."),
    ] = None
    error_code: Annotated[Text | None, Field(description="Of failed pins.")] = None
    since: Annotated[Instant | None, Field(description="The first moment of created_at.")] = None
    until: Annotated[
        Instant | None, Field(description="The first moment of created_at that is left out.")
    ] = None
    q: SearchText = None
    removed: Annotated[
        bool | None,
        Field(description="True: those deleted on Pinterest, of which Pinflow knows none."),
    ] = None
    sort: PinSort = PinSort.CREATED_AT_DESC


class ScheduleFilters(PageParameters):
    account_id: UUID | None = None
    board_id: Text | None = None
    status: Annotated[
        ScheduleStatus | None,
        Field(description="`deferred` and `running` are PinBridge's: none here is either."),
    ] = None
    since: Annotated[Instant | None, Field(description="The first moment of run_at.")] = None
    until: Annotated[
        Instant | None, Field(description="The first moment of run_at that is left out.")
    ] = None
    q: SearchText = None
    sort: ScheduleSort = ScheduleSort.RUN_AT_DESC
