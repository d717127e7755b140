"""Defines how use cases call another service. Imports no HTTP client, because rules see it too."""

from typing import Any, Protocol


class InternalCalls(Protocol):
    """Calls the internal routes of one other service. Implemented by InternalClient (internal.py).

    Tests implement it with a fake.
    """

    async def post(self, path: str, document: Any, *, timeout_seconds: float) -> Any:
        """Sends a document to /internal/`path`. Returns the answer's document.

        Raises the ApiError that the other service answers, with its code. Raises one with the code
        `service_unavailable` if there is no answer within `timeout_seconds`.
        """
