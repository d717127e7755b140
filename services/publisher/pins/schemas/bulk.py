"""HTTP models of bulk commands."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import assert_never
from uuid import UUID

from pydantic import BaseModel

from services.publisher.pins.transitions import CommandResult, Skipped, Updated
from shared.contract.errors import ApiError, ErrorCode


class BulkStatus(StrEnum):
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    """The state needs no change or does not allow it, or the id appears earlier in the list."""
    FAILED = "failed"


class BulkItemResponse(BaseModel):
    id: UUID
    status: BulkStatus
    error_code: str | None = None
    error_message: str | None = None

    @classmethod
    def from_result(cls, item_id: UUID, result: CommandResult) -> "BulkItemResponse":
        match result:
            case Updated():
                return cls(id=item_id, status=BulkStatus.SUCCEEDED)
            case Skipped(message=message):
                return cls(id=item_id, status=BulkStatus.SKIPPED, error_message=message)
            case ApiError(status=HTTPStatus.CONFLICT):
                status = BulkStatus.SKIPPED
            case ApiError():
                status = BulkStatus.FAILED
            case _:
                assert_never(result)
        return cls(id=item_id, status=status, error_code=result.code, error_message=result.message)


class BulkResponse(BaseModel):
    """One result for each id, in the order of the request."""

    succeeded_count: int
    skipped_count: int
    failed_count: int
    results: list[BulkItemResponse]

    @classmethod
    def from_results(
        cls, ids: Sequence[UUID], by_id: Mapping[UUID, CommandResult]
    ) -> "BulkResponse":
        results, seen = [], set[UUID]()
        for item_id in ids:
            is_repeated = item_id in seen
            results.append(
                _repeated(item_id)
                if is_repeated
                else BulkItemResponse.from_result(item_id, by_id[item_id])
            )
            seen.add(item_id)
        counts = {
            f"{status}_count": sum(result.status is status for result in results)
            for status in BulkStatus
        }
        return cls(**counts, results=results)


def _repeated(item_id: UUID) -> BulkItemResponse:
    message = "This id appears earlier in the list. See the result there."
    return BulkItemResponse(
        id=item_id,
        status=BulkStatus.SKIPPED,
        error_code=ErrorCode.DUPLICATE_ID,
        error_message=message,
    )
