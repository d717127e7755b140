"""Encodes row results: for storage as JSON without nulls, for answers with nulls."""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

from shared.contract.events import RowResult
from shared.contract.wire import encode
from shared.http.row_results import decode_results


def encode_results(results: Sequence[RowResult]) -> str:
    """Returns the JSON text that is stored."""
    return encode(results).decode()


def merge_results(stored: Sequence[str] | None) -> bytes:
    """Returns all results of a job as JSON in row order.

    Each stored text has the results of one fold. Results that were folded later can have lower row
    numbers.
    """
    results = list(chain.from_iterable(map(decode_results, stored or ())))
    results.sort(key=attrgetter("row_number"))
    return encode(results)
