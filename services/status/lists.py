"""The list of imports: the workspace's, newest first."""

from typing import Annotated

from pydantic import Field

from services.status.tables import jobs
from shared.access.model import Principal
from shared.contract.events import JobStatus, SourceType
from shared.contract.pins import Instant
from shared.http.pagination.pages import Lists
from shared.http.pagination.paging import Paging
from shared.http.pagination.search import Key, Order, Page, Search, Walk

# By jobs_of_workspace (migration 0004). What is not known by its import yet is invisible
_KNOWN = Walk("accepted_at is not null", "accepted_at")
_SHOWN = ", ".join(f"w.{column.name}" for column in jobs.c) + ", in_order"
_NEWEST_FIRST = Order("imports.created_at_desc", Key("accepted_at", is_time=True))


class ImportFilters(Paging):
    status: JobStatus | None = None
    source_type: SourceType | None = None
    since: Annotated[Instant | None, Field(description="The first moment of created_at.")] = None
    until: Annotated[
        Instant | None, Field(description="The first moment of created_at that is left out.")
    ] = None


class ImportLists:
    """Raises ApiError (422) for a cursor that fits not, and for a search that is too wide."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def imports(self, who: Principal, asked: ImportFilters) -> Page:
        given = {"status": asked.status, "source_type": asked.source_type}
        filters = {name: str(value) for name, value in given.items() if value is not None}
        search = Search(
            table="status.jobs",
            shown=_SHOWN,
            id="job_id",
            walks=[_KNOWN],
            order=_NEWEST_FIRST,
            window="accepted_at",
            since=asked.since,
            until=asked.until,
            conditions=[f"{name} = %({name})s" for name in filters],
            values={"workspace_id": who.workspace_id, **filters},
        )
        return await self._lists.page(
            search, limit=asked.limit, offset=asked.offset, after=asked.after(_NEWEST_FIRST)
        )
