"""Parses JSON strictly: NaN, Infinity and text that is not UTF-8 are errors."""

import json
from typing import Any, NoReturn

import orjson

from shared.contract.errors import ApiError, ErrorCode

BYTE_ORDER_MARK = "\ufeff"


def parse_json(body: bytes) -> Any:
    """Parses strict JSON. Raises ApiError (`invalid_json`).

    The error of a syntax fault has its line, column and offset in characters. The error of a byte
    that is not UTF-8 has its offset in bytes.

    A lone surrogate in a string must fail only its row, but orjson rejects the whole document. So a
    document that orjson rejects is parsed again by the standard library, whose result counts. Its
    extensions NaN and Infinity are rejected. If an object repeats a name, both parsers take the
    last value.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_with_standard_library(body)


def _parse_with_standard_library(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        location: dict[str, Any] = {
            "line": error.lineno,
            "column": error.colno,
            "offset": error.pos,
        }
        message = f"Invalid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        if error.doc.startswith(BYTE_ORDER_MARK):  # Python's own message advises another codec
            message = "Invalid JSON: the body begins with a byte order mark. Remove it."
        raise ApiError(ErrorCode.INVALID_JSON, message, **location) from None
    except UnicodeDecodeError as error:
        message = f"Invalid JSON: byte {error.start} is not UTF-8. Encode the body as UTF-8."
        raise ApiError(ErrorCode.INVALID_JSON, message, offset=error.start) from None
    except RecursionError:
        raise ApiError(
            ErrorCode.INVALID_JSON, "Invalid JSON: nested too deeply. Send fewer levels."
        ) from None
    except _NoJsonValue as error:
        raise ApiError(
            ErrorCode.INVALID_JSON, f"Invalid JSON: {error}. Send null or a number."
        ) from None
    except ValueError:  # Python's own message advises changing a setting of the interpreter
        raise ApiError(
            ErrorCode.INVALID_JSON, "Invalid JSON: a number has too many digits. Send fewer."
        ) from None


class _NoJsonValue(ValueError):
    """The document has a constant that Python accepts and JSON does not."""


def _reject_constant(name: str) -> NoReturn:
    raise _NoJsonValue(f"{name} is not a JSON value")
