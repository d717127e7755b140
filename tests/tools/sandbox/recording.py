"""Calls Pinterest with the client of the services, and prints every answer's limits."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from shared.pinterest.client import PinterestClient
from shared.pinterest.settings import PinterestSettings
from shared.pinterest.transport import RawAnswer, Transport

SHOWN_HEADERS = (
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "retry-after",
    "x-pinterest-rid",
)

Report = Callable[[str], None]


class RecordingTransport(Transport):
    """Prints the status, the time and the headers of each answer. Never a token."""

    def __init__(self, timeout_seconds: float, report: Report) -> None:
        super().__init__(timeout_seconds)
        self._report = report

    async def send(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> RawAnswer:
        started = time.perf_counter()
        answer = await super().send(
            operation, method, url, headers=headers, params=params, content=content
        )
        milliseconds = 1000 * (time.perf_counter() - started)
        shown = [
            f"{name}={answer.headers[name]}" for name in SHOWN_HEADERS if name in answer.headers
        ]
        self._report(f"    {operation} {answer.status} {milliseconds:.0f} ms {' '.join(shown)}")
        return answer


class RecordingClient(PinterestClient):
    """The client of the services, with a transport that prints what it gets."""

    def __init__(self, api_url: str, timeout_seconds: float, report: Report) -> None:
        # With the mode off, the settings need no app: this client only uses a token
        super().__init__(
            PinterestSettings(
                pinterest_mode="off",
                pinterest_api_url=api_url,
                pinterest_timeout_seconds=timeout_seconds,
            )
        )
        self._timeout_seconds = timeout_seconds
        self._report = report

    def _open_transport(self) -> Transport:
        if self._transport is None:
            self._transport = RecordingTransport(self._timeout_seconds, self._report)
        return self._transport


class Session:
    """The calls of one run, with one access token."""

    def __init__(self, client: PinterestClient, token: SecretStr) -> None:
        self._client = client
        self._token = token

    async def call(self, operation: str, method: str, path: str, document: Any = None) -> Any:
        return await self._client.call(
            operation, method, path, token=self._token, document=document
        )

    async def list_all(self, operation: str, path: str) -> list[dict[str, Any]]:
        return await self._client.list_all(operation, path, token=self._token)
