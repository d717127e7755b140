"""Builds records of the topic `outcomes` that fit into a Kafka batch. Does no I/O."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from shared.contract.events import RowResult, RowsSettled
from shared.contract.wire import encode
from shared.kafka.records import MAX_BATCH_BYTES, Header, Record


def split_into_records(
    job_id: UUID,
    workspace_id: UUID,
    results: Sequence[RowResult],
    headers: Sequence[Header] = (),
) -> Iterator[Record]:
    """Builds RowsSettled with the job id as key. Halves the results until each record fits.

    One result always fits: it has at most 20 kB, because each of its texts is bounded or cut. The
    longest is a failure with two messages, or an existing row with 13 differing fields.
    """
    value = encode(RowsSettled(job_id=job_id, workspace_id=workspace_id, results=list(results)))
    if len(value) > MAX_BATCH_BYTES and len(results) > 1:
        middle = len(results) // 2
        yield from split_into_records(job_id, workspace_id, results[:middle], headers)
        yield from split_into_records(job_id, workspace_id, results[middle:], headers)
    else:
        yield Record(str(job_id).encode(), value, list(headers))
