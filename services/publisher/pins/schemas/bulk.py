"""HTTP models of bulk commands."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import assert_never
from uuid import UUID

from services.publisher.pins.transitions import CommandResult, Skipped, Updated
from shared.contract.errors import ApiError, ErrorCode
from shared.http.models import ApiModel


class BulkStatus(StrEnum):
    """The result of a command for one id.

    - `succeeded`: the item was changed.
    - `skipped`: the item's state needs no change or does not allow it, or the id appears earlier in
      the list.
    - `failed`: the item does not exist, or a check failed. It was not changed.
    """

    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"


class BulkItemResponse(ApiModel):
    """The result of one id."""

    id: UUID
    """The id that was sent."""
    status: BulkStatus
    error_code: str | None = None
    """The reason for skipping or failing. Null if the item succeeded or needed no change."""
    error_message: str | None = None
    """The reason in words, and the next step to take. Null if the item succeeded."""

    @classmethod
    def from_result(cls, item_id: UUID, result: CommandResult) -> "BulkItemResponse":
        match result:
            case Updated():
                return cls(id=item_id, status=BulkStatus.SUCCEEDED)
            case Skipped(message=message):
                return cls(id=item_id, status=BulkStatus.SKIPPED, error_message=message)
            case ApiError(code=ErrorCode.PUBLISH_UNCONFIRMED):
                status = BulkStatus.FAILED  # it needs a person's decision
            case ApiError(status=HTTPStatus.CONFLICT):
                status = BulkStatus.SKIPPED
            case ApiError():
                status = BulkStatus.FAILED
            case _:
                assert_never(result)
        return cls(id=item_id, status=status, error_code=result.code, error_message=result.message)


class BulkResponse(ApiModel):
    """One result for each id, in the order of the request."""

    succeeded_count: int
    """Items that were changed."""
    skipped_count: int
    """Items that needed no change or could not be changed in their state."""
    failed_count: int
    """Items that failed and were not changed."""
    results: list[BulkItemResponse]
    """One result for each id, in the order of the request."""

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
