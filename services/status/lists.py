"""Lists the imports of a workspace, newest first."""

from typing import Annotated

from pydantic import Field

from services.status.tables import jobs
from shared.access.model import Principal
from shared.contract.events import JobStatus, SourceType
from shared.contract.pin_fields import Instant
from shared.http.pagination.list_query import IndexScan, ListQuery, Page, SortKey, SortOrder
from shared.http.pagination.paginator import Paginator
from shared.http.pagination.parameters import PageParameters

# Uses the index jobs_of_workspace (migration 0004). A job is listed after its import is folded
_FOLDED_IMPORTS = IndexScan("accepted_at is not null", "accepted_at")
_COLUMNS = (
    ", ".join(f"w.{column.name}" for column in jobs.c)
    + ", w.not_published::text as not_published, in_order"
)
_NEWEST_FIRST = SortOrder("imports.created_at_desc", SortKey("accepted_at", is_time=True))


class ImportFilters(PageParameters):
    status: Annotated[JobStatus | None, Field(description="Only imports in this state.")] = None
    source_type: Annotated[
        SourceType | None, Field(description="Only imports that were sent in this way.")
    ] = None
    since: Annotated[
        Instant | None, Field(description="Only imports created at this time or later.")
    ] = None
    until: Annotated[
        Instant | None, Field(description="Only imports created before this time.")
    ] = None
    include_undo: Annotated[
        bool, Field(description="`true` also says which imports were undone.")
    ] = False


class ImportLists:
    """Lists imports, page by page.

    Raises ApiError (422) if the cursor is invalid or the query would scan too many jobs.
    """

    def __init__(self, paginator: Paginator) -> None:
        self._paginator = paginator

    async def list_imports(self, principal: Principal, query: ImportFilters) -> Page:
        parameters = {"status": query.status, "source_type": query.source_type}
        filters = {name: str(value) for name, value in parameters.items() if value is not None}
        list_query = ListQuery(
            table="status.jobs",
            columns=_COLUMNS,
            id_column="job_id",
            scans=[_FOLDED_IMPORTS],
            order=_NEWEST_FIRST,
            window_column="accepted_at",
            since=query.since,
            until=query.until,
            conditions=[f"{name} = %({name})s" for name in filters],
            values={"workspace_id": principal.workspace_id, **filters},
        )
        return await self._paginator.page(
            list_query,
            limit=query.limit,
            offset=query.offset,
            after=query.decode_cursor(_NEWEST_FIRST),
        )
