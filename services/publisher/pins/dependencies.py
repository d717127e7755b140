"""What the endpoints have in common: the ports they work with, and how they say what they take."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request

from services.publisher.config import PublisherSettings
from services.publisher.pins.batch import Batches
from services.publisher.pins.dry_run import Validation
from services.publisher.pins.lists import PinLists
from services.publisher.pins.repository import PinQueries
from services.publisher.pins.schedules import Schedules
from services.publisher.pins.service import Pins
from shared.http.admission import ConcurrentWrites
from shared.http.bodies import Bodies, parse_json, require_content_type

BODIES_AT_ONCE = 64 * 1024 * 1024
"""Bytes. As many bodies at their limit as there may be requests at once."""
BATCHES_AT_ONCE = 16 * 1024 * 1024
"""Two of the longest; of usual ones many more."""


class Commands(NamedTuple):
    """What decides on single pins and schedules."""

    pins: Pins
    batches: Batches
    schedules: Schedules
    validation: Validation


class Ports:
    """What the endpoints work with; app.py puts it into app.state."""

    def __init__(
        self,
        settings: PublisherSettings,
        queries: PinQueries,
        lists: PinLists,
        commands: Commands,
    ) -> None:
        self.base_url = settings.base_url
        self.max_bulk_ids = settings.max_bulk_ids
        self.queries = queries
        self.lists = lists
        self.pins, self.batches, self.schedules, self.validation = commands
        self.admission = ConcurrentWrites(
            settings.max_direct_pins, written="pins are being published or changed"
        )
        self.bodies = _bodies(settings, settings.pin_body_limit, BODIES_AT_ONCE)
        self._batches = _bodies(settings, settings.batch_body_limit, BATCHES_AT_ONCE)

    @asynccontextmanager
    async def document(self, request: Request) -> AsyncIterator[Any]:
        """The JSON that was sent, and admission for what is done with it.

        Raises RequestRefused; Overloaded at once.
        """
        async with self._reading(request, self.bodies) as body:
            yield parse_json(body)

    @asynccontextmanager
    async def document_if_any(self, request: Request) -> AsyncIterator[Any]:
        """The same; None for no body."""
        async with self._reading(request, self.bodies) as body:
            yield parse_json(body) if body.strip() else None

    @asynccontextmanager
    async def batch(self, request: Request) -> AsyncIterator[Any]:
        """The same, of many pins."""
        async with self._reading(request, self._batches) as body:
            yield parse_json(body)

    @asynccontextmanager
    async def _reading(self, request: Request, bodies: Bodies) -> AsyncIterator[bytes]:
        require_content_type(request, "application/json")
        async with bodies.reading(request) as body:
            with self.admission.one():
                yield body


def _bodies(settings: PublisherSettings, limit: int, at_once: int) -> Bodies:
    return Bodies(
        limit_bytes=limit, seconds=settings.body_seconds, at_once_bytes=max(at_once, 2 * limit)
    )


async def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.dependencies
    return ports


Publisher = Annotated[Ports, Depends(_ports)]
