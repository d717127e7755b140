"""The header that makes a request safe to send again."""

from typing import Annotated

from fastapi import Header
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from shared.contract.pins import KeyText


def _utf8(value: str) -> str:
    # Starlette reads headers as latin-1: the key would be another than the same text in a body
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise PydanticCustomError("utf8", "must be UTF-8") from None


IdempotencyKey = Annotated[
    Annotated[KeyText, BeforeValidator(_utf8)] | None,
    Header(description="What makes the request safe to send again. UTF-8."),
]
"""As the same key would be read in a body."""
