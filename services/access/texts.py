"""Texts that people write into names and descriptions."""

from typing import Any

from pydantic import Field
from pydantic_core import PydanticCustomError

NAMED = Field(json_schema_extra={"minLength": 1, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"})
"""What `require_text` checks, as far as a schema can say it."""
STORABLE = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})


def given(*names: str, or_null: str | None = None) -> dict[str, Any]:
    """What a schema says of an update that must change something: one of these, and not null but
    for `or_null`.
    """
    changes = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names
    ]
    return {"anyOf": changes if or_null is None else [*changes, {"required": [or_null]}]}


def require_text(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return require_storable(value)


def require_storable(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul_character", "must not contain the character NUL")
    return value
