"""HTTP models of commands on many things at once."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from uuid import UUID

from pydantic import BaseModel

from services.publisher.pins.commands import Changed, Kept, Verdict
from shared.contract.errors import ErrorCode


class BulkStatus(StrEnum):
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    """Its state leaves nothing to do, or does not allow it; or its id stands in the list before."""
    FAILED = "failed"


class BulkItemResponse(BaseModel):
    id: UUID
    status: BulkStatus
    error_code: str | None = None
    error_message: str | None = None

    @classmethod
    def of(cls, item_id: UUID, verdict: Verdict) -> "BulkItemResponse":
        if isinstance(verdict, Changed):
            return cls(id=item_id, status=BulkStatus.SUCCEEDED)
        if isinstance(verdict, Kept):
            return cls(id=item_id, status=BulkStatus.SKIPPED, error_message=verdict.message)
        status = BulkStatus.SKIPPED if verdict.status == HTTPStatus.CONFLICT else BulkStatus.FAILED
        return cls(
            id=item_id, status=status, error_code=verdict.code, error_message=verdict.message
        )


class BulkResponse(BaseModel):
    """One result for each id, in the order of the request."""

    succeeded_count: int
    skipped_count: int
    failed_count: int
    results: list[BulkItemResponse]

    @classmethod
    def of(cls, ids: Sequence[UUID], verdicts: Mapping[UUID, Verdict]) -> "BulkResponse":
        results, seen = [], set[UUID]()
        for one in ids:
            results.append(
                _repeated(one) if one in seen else BulkItemResponse.of(one, verdicts[one])
            )
            seen.add(one)
        counts = {
            f"{status}_count": sum(result.status is status for result in results)
            for status in BulkStatus
        }
        return cls(**counts, results=results)


def _repeated(item_id: UUID) -> BulkItemResponse:
    message = "This id stands in the list before."
    return BulkItemResponse(
        id=item_id,
        status=BulkStatus.SKIPPED,
        error_code=ErrorCode.DUPLICATE_ID,
        error_message=message,
    )
