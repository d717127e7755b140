"""Sends ten imports of the largest allowed size at once through Pinflow."""

import asyncio
import random
from http import HTTPStatus

import httpx
import psutil
import pytest

from deploy.administration import NewWorkspace
from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES, MEBIBYTE
from tests.support.deployment import Deployment, is_status_behind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

AT_ONCE = 10
ROWS = 500
MAX_MEMORY_BYTES = 1024 * MEBIBYTE
"""Resident bytes of one service.

This only catches unbounded growth. docs/explanation/performance-history.md has the measured sizes.
"""
COLUMNS = (
    "account_id",
    "board_id",
    "title",
    "idempotency_key",
    "image_url",
    "description",
    "alt_text",
    "related_terms",
)
TEXT = "€ŠšŽžŒœŸ‰™†‡•“”„…‹›"
"""Characters with one byte in Windows-1252. Most have three bytes in UTF-8."""


def build_largest_csv(workspace: NewWorkspace, name: str) -> bytes:
    """Builds a CSV just below the size limit. In UTF-8 it is twice as large."""
    account = workspace.accounts[0]

    def text(length: int) -> str:
        return "".join(random.choices(TEXT, k=length))

    def line(number: int) -> str:
        terms = ",".join(text(100) for _ in range(50))
        url = f"https://cdn.example/{number}.png"
        cells = (
            str(account.id),
            account.boards[0],
            text(100),
            f"{name}-{number}",
            url,
            text(800),
            text(500),
            f'"{terms}"',
        )
        return ",".join(cells)

    size = (MAX_IMPORT_BODY_BYTES - 2000) // ROWS
    lines = [line(number) for number in range(1, ROWS + 1)]
    padded = [f'{text},"{"x" * (size - len(text) - 4)}"' for text in lines]
    return "\n".join([",".join([*COLUMNS, "notes"]), *padded]).encode("cp1252")


async def test_ten_of_the_largest_imports_at_once_settle_and_memory_is_bounded(
    pinflow: Deployment, workspace: NewWorkspace
) -> None:
    headers = {"X-API-Key": workspace.api_key}
    files = [build_largest_csv(workspace, f"large{number}") for number in range(AT_ONCE)]
    async with httpx.AsyncClient(
        base_url=pinflow.base_url, headers=headers, timeout=60, trust_env=False
    ) as client:

        async def settle(data: bytes) -> tuple[int, int]:
            answer = await submit_until_accepted(client, data)
            while True:
                read = await client.get(answer.headers["location"], headers={"Prefer": "wait=30"})
                if is_status_behind(read):
                    continue
                job = read.raise_for_status().json()
                if job["completed_at"] is not None:
                    return job["created_rows"], job["failed_rows"]

        assert await asyncio.gather(*map(settle, files)) == [(ROWS, 0)] * AT_ONCE
    memory = {
        name: psutil.Process(program.process.pid).memory_info().rss
        for name, program in pinflow.programs.items()
    }
    print({name: f"{size / MEBIBYTE:.0f} MiB" for name, size in memory.items()})
    assert max(memory.values()) < MAX_MEMORY_BYTES, memory


async def submit_until_accepted(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    """Sends the file until it is accepted. With ten at once the limits may refuse some."""
    while True:
        answer = await client.post(
            "/v1/pins/imports/csv",
            files={"file": ("large.csv", data, "text/csv")},
            # Random signs don't look like text
            params={"encoding": "windows-1252"},
        )
        if answer.status_code == HTTPStatus.ACCEPTED:
            return answer
        assert answer.status_code in {
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.TOO_MANY_REQUESTS,
        }, answer.text
        await asyncio.sleep(float(answer.headers["retry-after"]))
