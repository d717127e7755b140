"""Rows that one workspace can import."""

import time
from http import HTTPStatus
from typing import Any

import httpx

from deploy.administration import NewWorkspace
from tests.support.factories import submitted_row

PATIENCE_SECONDS = 60


def rows_for(
    workspace: NewWorkspace, count: int, *, prefix: str, **fields: Any
) -> list[dict[str, Any]]:
    """`count` rows under the keys prefix-1, prefix-2 …, spread over the workspace's accounts and
    boards.
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
    """What a careful client does: again after a 503 or a lost connection.

    Returns the job that it was told of.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
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
    raise AssertionError("never accepted")
