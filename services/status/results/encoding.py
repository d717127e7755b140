"""Encodes row results: for storage as JSON without nulls, for answers with nulls."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from shared.contract.events import Fault, FieldDifference, RowResult, RowStatus
from shared.contract.wire import encode


class FaultWithNulls(Fault, frozen=True, kw_only=True, omit_defaults=False):
    """A Fault that is encoded with nulls."""


class ResultWithNulls(RowResult, frozen=True, kw_only=True, omit_defaults=False):
    """A RowResult that is encoded with nulls, and always with a list of errors."""

    errors: list[FaultWithNulls] = msgspec.field(default_factory=list)  # type: ignore[assignment]


UNKNOWN_CODE = "unknown"
"""Counts failed rows whose result has no code. Only another producer writes such results."""
_DIFFERENCES = b'"differing_fields":['
_decode = msgspec.json.Decoder(list[ResultWithNulls]).decode


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the JSON text that is stored."""
    return encode(results).decode()


def decode_results(stored: Sequence[str] | None) -> list[ResultWithNulls]:
    """Returns all results of a job in row order.

    Each stored text has the results of one fold. Results that were folded later can have lower row
    numbers.
    """
    results = list(chain.from_iterable(map(_decode, stored or ())))
    results.sort(key=attrgetter("row_number"))
    return results


def merge_results(stored: Sequence[str] | None) -> bytes:
    """Returns all results of a job as JSON in row order."""
    return encode(decode_results(stored))


def read_results(results: bytes) -> list[ResultWithNulls]:
    """Returns the results of the JSON of `merge_results`."""
    return _decode(results)


def count_errors(results: Iterable[RowResult]) -> dict[str, int]:
    """Counts the failed rows by their error code, the most frequent code first."""
    codes = Counter(
        result.error_code or UNKNOWN_CODE for result in results if result.status is RowStatus.FAILED
    )
    return dict(codes.most_common())


def hide_values(results: bytes) -> bytes:
    """Removes the values of differing fields from the JSON of `merge_results`. Names stay.

    A key that is limited to some accounts may read every job of its workspace. But the stored value
    is the content of a pin, which may belong to another account.
    """
    if _DIFFERENCES not in results:
        return results
    return encode([hide_result_values(result) for result in _decode(results)])


def hide_result_values(result: ResultWithNulls) -> ResultWithNulls:
    if not result.differing_fields:
        return result
    names = [
        FieldDifference(field=difference.field, stored=None, sent=None)
        for difference in result.differing_fields
    ]
    return replace(result, differing_fields=names)
