"""Compares events with the pydantic models that they replaced."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from shared.contract import events
from shared.contract.published_schemas import PUBLISHED_SCHEMAS
from shared.contract.validation import describe_validation_error
from shared.contract.wire import Decoder, WireStruct, decoder
from tests.contract import pydantic_events

OMIT_NULLS = (events.RowAccepted, events.RowsSettled)


class Pair(NamedTuple):
    """An event, its former pydantic model and its decoder."""

    event: type[WireStruct]
    model: type[BaseModel]
    decode: Decoder[Any]


@cache
def pair(event: type[WireStruct]) -> Pair:
    """Finds the model of the same name."""
    return Pair(event, getattr(pydantic_events, event.__name__), decoder(event))


PAIRS = tuple(map(pair, PUBLISHED_SCHEMAS))


def to_builtins(value: Any) -> Any:
    """Converts structs and models to dicts, lists and scalars."""
    if isinstance(value, list):
        return [to_builtins(item) for item in value]
    names = getattr(type(value), "model_fields", None) or getattr(value, "__struct_fields__", ())
    return {name: to_builtins(getattr(value, name)) for name in names} if names else value


def outcome(decode: Callable[[Any], Any], value: object) -> Any:
    """Returns the decoded event as dicts and lists, or the message of its dead letter."""
    try:
        return to_builtins(decode(value))
    except ValidationError as error:
        return describe_validation_error(error)


def require_same(decode: Decoder[Any], old: Callable[[bytes], Any], value: bytes) -> None:
    """Fails if an event is decoded or refused differently than by its pydantic model.

    Unknown fields are an exception: msgspec does not look at their bytes, but pydantic did.
    """
    now, before = outcome(decode, value), outcome(old, value)
    if isinstance(before, str) and before.startswith("must be JSON") and isinstance(now, dict):
        return
    assert now == before
