"""Rows that one workspace can import."""

from typing import Any

from deploy.administration import NewWorkspace
from tests.factories import submitted


def rows_for(workspace: NewWorkspace, count: int, *, prefix: str, **fields: Any) -> list[dict[str, Any]]:
    """`count` rows under the keys prefix-1, prefix-2 …, spread over the workspace's accounts and boards."""
    return [
        submitted(**{**_destination(workspace, number), "idempotency_key": f"{prefix}-{number}", "title": f"Lamp {number}", **fields})
        for number in range(1, count + 1)
    ]


def _destination(workspace: NewWorkspace, number: int) -> dict[str, str]:
    account = workspace.accounts[number % len(workspace.accounts)]
    return {"account_id": str(account.id), "board_id": account.boards[number % len(account.boards)]}
