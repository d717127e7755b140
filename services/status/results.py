"""Row results as they are kept, several in one JSON text without what is null, and as they are
answered.
"""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

import msgspec

from shared.contract.events import RowResult


class _Fault(msgspec.Struct, gc=False):
    code: str
    message: str
    field: str | None = None
    value: str | None = None


class _Result(msgspec.Struct, gc=False):
    """RowResultResponse, field by field."""

    row_number: int
    status: str
    pin_id: str | None = None
    schedule_id: str | None = None
    idempotency_key: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    errors: list[_Fault] = []
    payload_matches: bool | None = None


def _dumped(result: RowResult) -> object:
    # msgspec writes structs by itself: what comes here is what the quick decoder left to pydantic
    return result.model_dump(mode="json", exclude_none=True)


_write = msgspec.json.Encoder(enc_hook=_dumped).encode
_read = msgspec.json.Decoder(list[_Result]).decode


def written(results: Sequence[RowResult]) -> str:
    """The text to keep."""
    return _write(results).decode()


def document(kept: Sequence[str] | None) -> bytes:
    """All of a job's results, as JSON in row order: each text is one fold's, and what is folded
    late may lie between others.
    """
    results = list(chain.from_iterable(map(_read, kept or ())))
    results.sort(key=attrgetter("row_number"))
    return _write(results)
