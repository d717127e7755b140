"""The header Idempotency-Key."""

from typing import Annotated, Any

from fastapi import Header
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from shared.contract.pin_fields import KeyText


def _utf8(value: str) -> str:
    # Starlette decodes headers as latin-1, so the same text in a body would be a different key
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise PydanticCustomError(
            "utf8", "must be encoded as UTF-8. Use only ASCII characters if your client can't do so"
        ) from None


IdempotencyKey = Annotated[
    Annotated[KeyText, BeforeValidator(_utf8)] | None,
    Header(description="Makes it safe to send the request again. UTF-8."),
]
"""Decoded as UTF-8, so that one text is one key, in this header or in a body."""

REPLAYED: dict[str, Any] = {
    "Idempotent-Replayed": {
        "description": "`true` if the request was sent before: the answer is what exists. "
        "Otherwise absent.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
"""Describes the header of an answer to a repeated request for OpenAPI."""
