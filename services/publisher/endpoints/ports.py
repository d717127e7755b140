"""What the endpoints have in common: the ports they work with, and how they say what they take."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request

from services.publisher.api_keys import ApiKeys
from services.publisher.config import PublisherSettings
from services.publisher.destinations import Destinations
from services.publisher.lists import PinLists
from services.publisher.pins import Pins
from services.publisher.queries import PinQueries
from shared.access.repository import AccessRepository
from shared.bodies import Bodies
from shared.http import refusals

NOT_FOUND = refusals(HTTPStatus.NOT_FOUND)
BODIES_AT_ONCE = 64 * 1024 * 1024
"""Bytes. As many bodies at their limit as there may be requests at once."""


class Ports:
    """What the endpoints work with; app.py puts it into app.state."""

    def __init__(
        self,
        settings: PublisherSettings,
        queries: PinQueries,
        lists: PinLists,
        pins: Pins,
        access: AccessRepository,
        keys: ApiKeys,
        destinations: Destinations,
    ) -> None:
        self.base_url = settings.base_url
        at_once = max(BODIES_AT_ONCE, 2 * settings.pin_body_limit)
        self.bodies = Bodies(limit_bytes=settings.pin_body_limit, seconds=settings.body_seconds, at_once_bytes=at_once)
        self.queries = queries
        self.lists = lists
        self.pins = pins
        self.access = access
        self.keys = keys
        self.destinations = destinations


async def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.ports
    return ports


Publisher = Annotated[Ports, Depends(_ports)]
