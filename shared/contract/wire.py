"""Encodes and decodes the events on the topics.

An event is a msgspec struct (shared/contract/events.py). A pydantic model is derived from each
struct: it explains validation errors and generates the JSON Schema.
"""

from collections.abc import Callable
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    create_model,
)
from pydantic_core import CoreSchema, core_schema

from shared.contract.docstrings import read_field_docstrings

UNDECODABLE = (ValueError, RecursionError)
"""Errors of `Decoder.strict`. RecursionError: excessive nesting, even in an unknown field."""

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""Encodes an event as JSON: fields in the order of the struct, a time in UTC with a `Z`."""


class WireStruct(msgspec.Struct, frozen=True, gc=False):
    """Base class of all events and their parts.

    Unknown fields are ignored, so an older consumer can read the records of a newer producer.
    `gc=False`: structs never form a reference cycle, and a batch has tens of thousands of them.
    """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Builds the schema with which pydantic validates, serializes and describes the struct."""
        return core_schema.no_info_after_validator_function(
            lambda model: cls(**model.__dict__),
            handler.generate_schema(_model(cls)),
            serialization=core_schema.plain_serializer_function_ser_schema(msgspec.structs.asdict),
        )


E = TypeVar("E")


class Decoder(Generic[E]):
    """Decodes events of one type, first with msgspec, then with pydantic.

    msgspec decodes the records of Pinflow's own producers: 1.0 µs a RowAccepted, 4.8 with pydantic.
    pydantic decodes what msgspec rejects. It accepts other forms of ids, numbers and times, and
    its ValidationError names every wrong field.
    """

    def __init__(self, strict: Callable[[bytes], E], lenient: TypeAdapter[E]) -> None:
        self.strict = strict
        """Decodes with msgspec alone. Raises UNDECODABLE."""
        self._lenient = lenient

    def __call__(self, value: bytes) -> E:
        """Decodes JSON. Raises pydantic's ValidationError."""
        try:
            return self.strict(value)
        except UNDECODABLE:
            return self._lenient.validate_json(value)

    def from_document(self, document: object) -> E:
        """Decodes a document that was parsed from JSON. Raises pydantic's ValidationError."""
        return self._lenient.validate_python(document)


def decoder(event_type: type[E]) -> Decoder[E]:
    """Builds the decoder of one type of event."""
    return Decoder(msgspec.json.Decoder(event_type).decode, TypeAdapter(event_type))


def _model(struct: type[WireStruct]) -> type[BaseModel]:
    hints = get_type_hints(struct, include_extras=True)
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        default = ... if field.required else Field(default=field.default)
        if field.default_factory is not msgspec.NODEFAULT:
            default = Field(default=field.default_factory())
        fields[field.name] = (_annotation(hints[field.name]), default)

    # Called only for a JSON Schema. pydantic finds the texts only in the source of its own models
    def describe_fields(schema: dict[str, Any]) -> None:
        for name, description in read_field_docstrings(struct).items():
            schema["properties"][name].setdefault("description", description)

    config = ConfigDict(extra="ignore", from_attributes=True, json_schema_extra=describe_fields)
    return create_model(struct.__name__, __doc__=struct.__doc__, __config__=config, **fields)


def _annotation(hint: Any) -> Any:
    """Replaces msgspec's bounds with pydantic's."""
    if get_origin(hint) in {Union, UnionType}:
        return Union[tuple(_annotation(part) for part in get_args(hint))]  # noqa: UP007
    if get_origin(hint) is not Annotated:
        return hint
    annotated, *metadata = get_args(hint)
    for item in metadata:
        annotated = _bounded(annotated, item)
    return annotated


def _bounded(annotated: Any, bound: Any) -> Any:
    if not isinstance(bound, msgspec.Meta):
        return Annotated[annotated, bound]
    if bound.tz and annotated is datetime:
        return AwareDatetime
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    limits = {name: getattr(bound, name) for name in names if getattr(bound, name) is not None}
    return Annotated[annotated, Field(**limits)]
