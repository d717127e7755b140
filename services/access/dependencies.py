"""Names what the access service's endpoints use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from services.access.boards.service import BoardService
from services.access.keys.service import KeyService
from shared.http.admission import ConcurrentWrites
from shared.http.bodies import Bodies, parse_json, require_content_type
from shared.http.dependencies import provided


@dataclass(frozen=True, slots=True)
class AccessDependencies:
    """Holds what create_app made for the endpoints."""

    keys: KeyService
    boards: BoardService
    bodies: Bodies
    writes: ConcurrentWrites

    async def read_json(self, request: Request) -> Any:
        """Reads the JSON that was sent. Raises RequestRefused."""
        require_content_type(request, "application/json")
        async with self.bodies.reading(request) as body:
            return parse_json(body)

    @asynccontextmanager
    async def document(self, request: Request) -> AsyncIterator[Any]:
        """Reads the JSON that was sent, and admits what is done with it until the block ends.

        Raises RequestRefused; Overloaded at once.
        """
        require_content_type(request, "application/json")
        async with self.bodies.reading(request) as body:
            with self.writes.one():
                yield parse_json(body)


Access = Annotated[AccessDependencies, Depends(provided(AccessDependencies))]
