"""Sends the planned pins, and repeats each request until Pinflow has answered it."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import httpx

from deploy.administration import NewWorkspace
from tests.tools.chaos.deliveries.plan import PlannedPin, split_imports

PAUSE_SECONDS = 0.5
DIRECT_CALLS_AT_ONCE = 2
REPEATED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.CONFLICT}
"""409 request_in_progress: an earlier attempt of the same request is still being processed."""


class Workload:
    """Sends every pin at least once. Keys make the repetitions harmless."""

    def __init__(
        self, base_url: str, workspaces: Sequence[NewWorkspace], planned: Sequence[PlannedPin]
    ) -> None:
        self._base_url = base_url
        self._workspaces = workspaces
        self._planned = planned
        self.refusals: list[str] = []
        """Answers that no repetition would change. There should be none."""

    async def submit_all(self) -> None:
        """Returns after every request was accepted."""
        await asyncio.gather(
            *(self._submit_imports(number) for number in range(len(self._workspaces))),
            *(self._submit_direct(number) for number in range(len(self._workspaces))),
        )

    async def submit_direct_again(self) -> None:
        """Repeats all direct calls: a restore forgets those that the backup did not have."""
        await asyncio.gather(
            *(self._submit_direct(number) for number in range(len(self._workspaces)))
        )

    async def _submit_imports(self, workspace: int) -> None:
        async with self._client(workspace) as client:
            for number, rows in enumerate(split_imports(self._planned, workspace)):
                key = {"Idempotency-Key": f"import-{workspace}-{number}"}
                await self._repeat(client, "/v1/pins/imports/json", rows, key)

    async def _submit_direct(self, workspace: int) -> None:
        slots = asyncio.Semaphore(DIRECT_CALLS_AT_ONCE)
        async with self._client(workspace) as client:

            async def submit(pin: PlannedPin) -> None:
                async with slots:
                    await self._repeat(client, "/v1/pins", pin.row, {})

            own = [pin for pin in self._planned if pin.workspace == workspace and pin.is_direct]
            await asyncio.gather(*map(submit, own))

    async def _repeat(
        self, client: httpx.AsyncClient, path: str, document: Any, headers: dict[str, str]
    ) -> None:
        while True:
            try:
                answer = await client.post(path, json=document, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if answer.is_success:
                return
            if not answer.is_server_error and answer.status_code not in REPEATED:
                self.refusals.append(f"{path}: {answer.status_code} {answer.text[:300]}")
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def _client(self, workspace: int) -> httpx.AsyncClient:
        headers = {"X-API-Key": self._workspaces[workspace].api_key}
        return httpx.AsyncClient(
            base_url=self._base_url, headers=headers, timeout=15, trust_env=False
        )
