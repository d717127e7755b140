"""The list of imports: the workspace's, newest first."""

from typing import Annotated

from pydantic import Field

from services.status.tables import jobs
from shared.access.model import Principal
from shared.contract.events import JobStatus, SourceType
from shared.contract.pins import Instant
from shared.http.pagination.list_query import IndexScan, ListQuery, Page, SortKey, SortOrder
from shared.http.pagination.paginator import Paginator
from shared.http.pagination.parameters import PageParameters

# By jobs_of_workspace (migration 0004). What is not known by its import yet is invisible
_KNOWN = IndexScan("accepted_at is not null", "accepted_at")
_SHOWN = ", ".join(f"w.{column.name}" for column in jobs.c) + ", in_order"
_NEWEST_FIRST = SortOrder("imports.created_at_desc", SortKey("accepted_at", is_time=True))


class ImportFilters(PageParameters):
    status: JobStatus | None = None
    source_type: SourceType | None = None
    since: Annotated[Instant | None, Field(description="The first moment of created_at.")] = None
    until: Annotated[
        Instant | None, Field(description="The first moment of created_at that is left out.")
    ] = None


class ImportLists:
    """Raises ApiError (422) for a cursor that fits not, and for a query that is too wide."""

    def __init__(self, paginator: Paginator) -> None:
        self._paginator = paginator

    async def list_imports(self, who: Principal, asked: ImportFilters) -> Page:
        given = {"status": asked.status, "source_type": asked.source_type}
        filters = {name: str(value) for name, value in given.items() if value is not None}
        list_query = ListQuery(
            table="status.jobs",
            columns=_SHOWN,
            id_column="job_id",
            scans=[_KNOWN],
            order=_NEWEST_FIRST,
            window_column="accepted_at",
            since=asked.since,
            until=asked.until,
            conditions=[f"{name} = %({name})s" for name in filters],
            values={"workspace_id": who.workspace_id, **filters},
        )
        return await self._paginator.page(
            list_query,
            limit=asked.limit,
            offset=asked.offset,
            after=asked.decode_cursor(_NEWEST_FIRST),
        )
