"""Reads from the publisher which imports were undone."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from shared.contract.errors import ApiError
from shared.http.internal_calls import InternalCalls
from shared.postgres.row import Row

TIMEOUT_SECONDS = 3.0
"""An import without its undo is better than none."""


class UndoReader:
    """Reads the undos of imports, for requests that ask for them."""

    def __init__(self, publisher: InternalCalls) -> None:
        self._publisher = publisher

    async def find(self, workspace_id: UUID, jobs: Iterable[Row]) -> Mapping[UUID, dict[str, Any]]:
        """Returns the undos of these jobs, by job id. Returns none if the publisher is away."""
        ids = [str(job["job_id"]) for job in jobs if job["completed_at"] and job["created_rows"]]
        if not ids:
            return {}
        request = {"workspace_id": str(workspace_id), "job_ids": ids}
        try:
            answer = await self._publisher.post(
                "imports/undos", request, timeout_seconds=TIMEOUT_SECONDS
            )
        except ApiError:
            return {}
        return {UUID(undo.pop("job_id")): undo for undo in answer["undos"]}
