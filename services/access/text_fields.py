"""Validates the text fields of keys and boards, and describes the rules in JSON Schema."""

from typing import Any

from pydantic import Field
from pydantic_core import PydanticCustomError

NOT_BLANK = Field(json_schema_extra={"minLength": 1, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"})
"""The rule of `require_text`, as far as JSON Schema can express it."""
WITHOUT_NUL = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
ABSENT: dict[str, Any] = {"not": {}}
"""Matches no value. `False` would mean the same, but some generators of clients can't read it."""


def require_any_of(*names: str, or_null: str | None = None) -> dict[str, Any]:
    """Builds the JSON Schema of an update, which must have at least one of the fields.

    A field counts only if it is not null. The field `or_null` counts even if it is null.
    """
    # Generators of clients ignore `not`. From `anyOf` they would make a union of types
    nothing: dict[str, Any] = {name: {"type": "null"} for name in names}
    if or_null is not None:
        nothing[or_null] = ABSENT
    return {"not": {"properties": nothing}}


def require_text(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return require_storable(value)


def require_storable(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul_character", "must not contain the character NUL")
    return value
