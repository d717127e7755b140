"""Reading what a client sends: never more than the limit, and JSON as strict as the contract says."""

import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any, NoReturn

import orjson
from fastapi import Request

from shared.errors import ErrorCode, RequestRefused

MAX_DISCARDED_BYTES = 64 * 1024 * 1024
"""What is read, and thrown away, of a body that is too large. As much as the gateway lets through."""


def require_content_type(request: Request, *accepted: str) -> None:
    """Raises RequestRefused (415). A request without one is taken at its word: it is parsed, and refused if it isn't what it should be."""
    given = request.headers.get("content-type", accepted[0]).partition(";")[0].strip().lower()
    if given not in accepted:
        message = f"Send {' or '.join(accepted)}, not {given or 'nothing'}."
        raise RequestRefused(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


async def read_limited(request: Request, limit_bytes: int) -> bytes:
    """The whole body, never more than the limit in memory. Raises RequestRefused (413) for a larger one."""
    chunks = request.stream()
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        await _discard(chunks)
        raise _too_large(limit_bytes)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            body.clear()
            await _discard(chunks)
            raise _too_large(limit_bytes)
    return bytes(body)


async def _discard(chunks: AsyncGenerator[bytes, None]) -> None:
    # Answered while the client still sends, the refusal would be lost: TCP resets a connection that is closed with unread data
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > MAX_DISCARDED_BYTES:
            return


def _too_large(limit_bytes: int) -> RequestRefused:
    message = f"The body is larger than {limit_bytes} bytes."
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    # Of what is far too large the rest is not read: the connection can't be used again
    return RequestRefused(ErrorCode.PAYLOAD_TOO_LARGE, message, status, headers={"Connection": "close"}, limit_bytes=limit_bytes)


def parse_json(body: bytes) -> Any:
    """Raises RequestRefused (`invalid_json`) with line, column and offset.

    orjson refuses a document with a lone surrogate in any string; the contract fails only its row. So what orjson refuses is
    given to the standard library, whose verdict counts; NaN and Infinity, which it would take, are no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_slowly(body)


def _parse_slowly(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where: dict[str, Any] = {"line": error.lineno, "column": error.colno, "offset": error.pos}
        message = f"Invalid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise RequestRefused(ErrorCode.INVALID_JSON, message, **where) from None
    except UnicodeDecodeError as error:
        message = f"Invalid JSON: byte {error.start} is not UTF-8."
        raise RequestRefused(ErrorCode.INVALID_JSON, message, offset=error.start) from None
    except RecursionError:
        raise RequestRefused(ErrorCode.INVALID_JSON, "Invalid JSON: nested too deeply.") from None
    except ValueError as error:  # a number of more digits than Python converts, NaN, Infinity
        raise RequestRefused(ErrorCode.INVALID_JSON, f"Invalid JSON: {error}.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
