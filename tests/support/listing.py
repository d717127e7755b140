"""Reads lists: directly from the database, or page by page over HTTP."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import httpx

from services.status.lists import ImportFilters, ImportLists
from shared.access.model import Principal
from shared.http.pagination.list_query import Page
from shared.http.pagination.paginator import Paginator
from shared.postgres.database import Database
from shared.runtime.settings import ListSettings

_NEXT = re.compile(r'<(?P<url>[^>]*)>; rel="next"')


def build_principal(workspace_id: UUID, account_ids: frozenset[UUID] | None = None) -> Principal:
    return Principal(workspace_id, uuid4(), frozenset(), account_ids)


async def list_imports(database: Database, workspace_id: UUID, **filters: Any) -> Page:
    """Returns the first page of the workspace's imports."""
    lists = ImportLists(Paginator(database, ListSettings()))
    return await lists.list_imports(
        build_principal(workspace_id), ImportFilters(**{"limit": 200, **filters})
    )


def read_next_url(answer: httpx.Response) -> str | None:
    link = _NEXT.fullmatch(answer.headers.get("link", ""))
    return link["url"] if link else None


def parse_query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


async def read_pages(
    http: httpx.AsyncClient, path: str, query: Mapping[str, Any], headers: Mapping[str, str]
) -> AsyncIterator[list[Any]]:
    """Yields the rows of each page and follows its Link header. Fails on an error response."""
    answer = await http.get(path, params=dict(query), headers=dict(headers))
    while True:
        assert answer.is_success, answer.text
        yield answer.json()
        if (url := read_next_url(answer)) is None:
            return
        answer = await http.get(url, headers=dict(headers))
