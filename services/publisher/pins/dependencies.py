"""Gives the endpoints what they work with. app.py sets it once, as `app.state.dependencies`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from services.publisher.config import PublisherSettings
from services.publisher.pins.admission import Admission
from services.publisher.pins.batch import BatchService
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.lists.service import PinLists
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from shared.http.bodies import Bodies, parse_json, require_content_type

CONCURRENT_BODY_BYTES = 64 * 1024 * 1024
"""As many bodies at their limit as there may be requests at once."""
CONCURRENT_BATCH_BYTES = 16 * 1024 * 1024
"""Two of the longest batches, and many more of usual ones."""


class JsonReader:
    """Reads JSON bodies, and admits a limited number of requests to what is done with them.

    Raises RequestRefused; Overloaded at once if there is no room.
    """

    def __init__(self, bodies: Bodies, admission: Admission) -> None:
        self._bodies = bodies
        self._admission = admission

    @classmethod
    def create(
        cls, settings: PublisherSettings, admission: Admission, *, limit: int, concurrent_bytes: int
    ) -> "JsonReader":
        """`limit` is for one body and `concurrent_bytes` for all bodies at once, in bytes."""
        bodies = Bodies(
            limit_bytes=limit,
            seconds=settings.body_seconds,
            at_once_bytes=max(concurrent_bytes, 2 * limit),
        )
        return cls(bodies, admission)

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
            with self._admission.one():
                yield body


@dataclass(frozen=True)
class PinDependencies:
    base_url: str
    max_bulk_ids: int
    pins: PinService
    schedules: ScheduleService
    batches: BatchService
    dry_run: DryRunService
    lists: PinLists
    admission: Admission
    """Admits requests that change something and have no body."""
    reader: JsonReader
    batch_reader: JsonReader


async def _dependencies(request: Request) -> PinDependencies:
    return cast("PinDependencies", request.app.state.dependencies)


Dependencies = Annotated[PinDependencies, Depends(_dependencies)]
