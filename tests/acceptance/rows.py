"""Builds valid rows for a workspace, and imports them with retries."""

import time
from http import HTTPStatus
from typing import Any

import httpx

from deploy.administration import NewWorkspace
from tests.support.factories import submitted_row

RETRY_SECONDS = 60


def rows_for(
    workspace: NewWorkspace, count: int, *, prefix: str, **fields: Any
) -> list[dict[str, Any]]:
    """Builds `count` rows with the keys prefix-1, prefix-2 and so on.

    They are spread over the workspace's accounts and boards.
    """
    return [
        submitted_row(
            **{
                **_destination(workspace, number),
                "idempotency_key": f"{prefix}-{number}",
                "title": f"Lamp {number}",
                **fields,
            }
        )
        for number in range(1, count + 1)
    ]


def _destination(workspace: NewWorkspace, number: int) -> dict[str, str]:
    account = workspace.accounts[number % len(workspace.accounts)]
    return {"account_id": str(account.id), "board_id": account.boards[number % len(account.boards)]}


def submit_until_accepted(client: httpx.Client, rows: list[dict[str, Any]]) -> str:
    """Submits the rows as a careful client does, and returns the job's id.

    Retries after a 503 or a lost connection.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = client.post("/v1/pins/imports/json", json=rows)
        except httpx.TransportError:
            continue
        if answer.status_code == HTTPStatus.ACCEPTED:
            return str(answer.json()["id"])
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE, answer.text
        assert "retry-after" in answer.headers
        time.sleep(0.1)
    raise AssertionError(f"not accepted within {RETRY_SECONDS} s")
