"""Texts that people write into names and descriptions."""

from pydantic import Field
from pydantic_core import PydanticCustomError

NAMED = Field(json_schema_extra={"minLength": 1, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"})
"""What `require_text` checks, as far as a schema can say it."""
STORABLE = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})


def require_text(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return require_storable(value)


def require_storable(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul_character", "must not contain the character NUL")
    return value
