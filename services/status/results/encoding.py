"""Encodes row results for storage as JSON without nulls, and reads them for answers with nulls."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter

from shared.contract.events import RowResult, RowStatus
from shared.contract.wire import encode
from shared.http.row_results import ResultWithNulls, decode_results

UNKNOWN_CODE = "unknown"
"""Counts failed rows whose result has no code. Only another producer writes such results."""


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the JSON text that is stored."""
    return encode(results).decode()


def read_stored(stored: Sequence[str] | None) -> list[ResultWithNulls]:
    """Returns all results of a job in row order.

    Each stored text has the results of one fold. Results that were folded later can have lower row
    numbers.
    """
    results = list(chain.from_iterable(map(decode_results, stored or ())))
    results.sort(key=attrgetter("row_number"))
    return results


def index_results(results: bytes) -> dict[int, ResultWithNulls]:
    """Decodes a job's results, a JSON array. Returns them by row number."""
    return {result.row_number: result for result in decode_results(results)}


def count_errors(results: Iterable[RowResult]) -> dict[str, int]:
    """Counts the failed rows by their error code, the most frequent code first."""
    codes = Counter(
        result.error_code or UNKNOWN_CODE for result in results if result.status is RowStatus.FAILED
    )
    return dict(codes.most_common())
