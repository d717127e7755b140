"""Encodes row results: for storage as JSON without nulls, for answers with nulls."""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from shared.contract.events import Fault, FieldDifference, RowResult
from shared.contract.wire import encode


class FaultWithNulls(Fault, frozen=True, kw_only=True, omit_defaults=False):
    """A Fault that is encoded with nulls."""


class ResultWithNulls(RowResult, frozen=True, kw_only=True, omit_defaults=False):
    """A RowResult that is encoded with nulls, and always with a list of errors."""

    errors: list[FaultWithNulls] = msgspec.field(default_factory=list)  # type: ignore[assignment]


_DIFFERENCES = b'"differing_fields":['
_decode = msgspec.json.Decoder(list[ResultWithNulls]).decode


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the JSON text that is stored."""
    return encode(results).decode()


def merge_results(stored: Sequence[str] | None) -> bytes:
    """Returns all results of a job as JSON in row order.

    Each stored text has the results of one fold. Results that were folded later can have lower row
    numbers.
    """
    results = list(chain.from_iterable(map(_decode, stored or ())))
    results.sort(key=attrgetter("row_number"))
    return encode(results)


def hide_values(results: bytes) -> bytes:
    """Removes the values of differing fields from the JSON of `merge_results`. Names stay.

    A key that is limited to some accounts may read every job of its workspace. But the stored value
    is the content of a pin, which may belong to another account.
    """
    if _DIFFERENCES not in results:
        return results
    return encode([_hide_result_values(result) for result in _decode(results)])


def _hide_result_values(result: ResultWithNulls) -> ResultWithNulls:
    if not result.differing_fields:
        return result
    names = [
        FieldDifference(field=difference.field, stored=None, sent=None)
        for difference in result.differing_fields
    ]
    return replace(result, differing_fields=names)
