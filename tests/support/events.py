"""Reads events as their consumers do."""

from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from shared.contract.wire import Decoder, decoder

E = TypeVar("E")


@cache
def _decoder(event_type: Any) -> Decoder[Any]:
    return decoder(event_type)


def parse_event(event_type: type[E], value: bytes | None) -> E:
    """Decodes an event of this type."""
    event: E = _decoder(cast("Any", event_type))(value or b"")
    return event


def event_document(event: object) -> dict[str, Any]:
    """Returns the event's JSON, parsed."""
    parsed: dict[str, Any] = msgspec.to_builtins(event)
    return parsed
