"""Parses JSON as strictly as the contract says."""

import json
from typing import Any, NoReturn

import orjson

from shared.contract.errors import ApiError, ErrorCode


def parse_json(body: bytes) -> Any:
    """Parses strict JSON. Raises ApiError (`invalid_json`) with line, column and offset.

    orjson refuses a document with a lone surrogate in any string; the contract fails only its row.
    So what orjson refuses is given to the standard library, whose verdict counts; NaN and Infinity,
    which it would take, are no JSON. Of equal names in one object the last counts, to both.
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
        raise ApiError(ErrorCode.INVALID_JSON, message, **where) from None
    except UnicodeDecodeError as error:
        message = f"Invalid JSON: byte {error.start} is not UTF-8."
        raise ApiError(ErrorCode.INVALID_JSON, message, offset=error.start) from None
    except RecursionError:
        raise ApiError(ErrorCode.INVALID_JSON, "Invalid JSON: nested too deeply.") from None
    except _NoJsonValue as error:
        raise ApiError(ErrorCode.INVALID_JSON, f"Invalid JSON: {error}.") from None
    except ValueError:  # Python's own words for it tell the reader to change a setting of Python's
        raise ApiError(
            ErrorCode.INVALID_JSON, "Invalid JSON: a number has too many digits."
        ) from None


class _NoJsonValue(ValueError):
    """Python takes the constant, JSON does not."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NoJsonValue(f"{name} is no JSON value")
