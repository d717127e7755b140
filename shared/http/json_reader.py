"""Reads JSON bodies of requests that write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request

from shared.http.admission import ConcurrentWrites
from shared.http.bodies import Bodies, parse_json, require_content_type


class JsonReader:
    """Reads JSON bodies, and admits a limited number of requests to what is done with them.

    Raises RequestRefused; Overloaded at once if there is no room.
    """

    def __init__(self, bodies: Bodies, writes: ConcurrentWrites) -> None:
        self._bodies = bodies
        self._writes = writes

    @asynccontextmanager
    async def document(self, request: Request) -> AsyncIterator[Any]:
        async with self._reading(request) as body:
            yield parse_json(body)

    @asynccontextmanager
    async def optional_document(self, request: Request) -> AsyncIterator[Any]:
        """Yields None for an empty body."""
        async with self._reading(request) as body:
            yield parse_json(body) if body.strip() else None

    @asynccontextmanager
    async def _reading(self, request: Request) -> AsyncIterator[bytes]:
        require_content_type(request, "application/json")
        async with self._bodies.reading(request) as body:
            with self._writes.one():
                yield body
