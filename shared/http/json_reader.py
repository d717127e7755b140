"""Reads JSON bodies of requests that write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import Request

from shared.contract.strict_json import parse_json
from shared.http.bodies import BodyReader, require_content_type
from shared.http.write_limit import WriteLimit


class JsonReader:
    """Reads JSON bodies. Raises ApiError."""

    def __init__(self, bodies: BodyReader, writes: WriteLimit | None = None) -> None:
        """Reads with `bodies`. `writes`, if given, limits the requests inside a `read` block.

        Beyond the limit, `read` raises Overloaded without waiting, after it has read the body.
        """
        self._bodies = bodies
        self._writes = writes

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Any]:
        """Yields the parsed body."""
        async with self._read_bytes(request) as body:
            yield parse_json(body)

    @asynccontextmanager
    async def read_optional(self, request: Request) -> AsyncIterator[Any]:
        """Yields the parsed body, or None for an empty one."""
        async with self._read_bytes(request) as body:
            yield parse_json(body) if body.strip() else None

    @asynccontextmanager
    async def _read_bytes(self, request: Request) -> AsyncIterator[bytes]:
        require_content_type(request, "application/json")
        async with self._bodies.read(request) as body:
            with self._writes.acquire() if self._writes else nullcontext():
                yield body
