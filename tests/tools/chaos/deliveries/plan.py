"""Plans the pins of a run: by which path each is sent, and which of them are equal. No I/O."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from deploy.administration import NewWorkspace

IMPORT_ROWS = 500
SHARE_OF_DIRECT_CALLS = 0.03
SHARE_OF_SCHEDULES = 0.1
SHARE_OF_TWINS = 0.02
"""The share of pins whose board and texts equal those of another publication."""
SCHEDULE_SECONDS = 240


class Group(NamedTuple):
    """Identifies a pin by what Pinterest shows of it.

    Publications with equal content are one group.
    """

    board_id: str
    title: str
    link: str


@dataclass(frozen=True)
class PlannedPin:
    """One publication."""

    workspace: int
    key: str
    group: Group
    row: dict[str, Any]
    is_direct: bool


def plan_pins(
    workspaces: Sequence[NewWorkspace], count: int, seed: int, now: datetime | None = None
) -> list[PlannedPin]:
    """Plans `count` pins, evenly over all accounts."""
    rng = random.Random(f"{seed}/plan")
    accounts = [
        (number, account)
        for number, workspace in enumerate(workspaces)
        for account in workspace.accounts
    ]
    start = now or datetime.now(UTC)
    planned: list[PlannedPin] = []
    for number in range(count):
        workspace, account = accounts[number % len(accounts)]
        board_id, name = rng.choice(account.boards), f"{seed}-{number}"
        twin = planned[number - len(accounts)] if number >= len(accounts) else None
        if twin is not None and rng.random() < SHARE_OF_TWINS:
            group = twin.group
        else:
            group = Group(board_id, f"Pin {name}", f"https://shop.example/{name}")
        row = {
            "account_id": str(account.id),
            "board_id": group.board_id,
            "title": group.title,
            "link_url": group.link,
            "image_url": f"https://images.example/{name}.jpg",
            "idempotency_key": name,
        }
        is_direct = rng.random() < SHARE_OF_DIRECT_CALLS
        if not is_direct and rng.random() < SHARE_OF_SCHEDULES:
            run_at = start + timedelta(seconds=rng.uniform(30, SCHEDULE_SECONDS))
            row["run_at"] = run_at.isoformat()
        planned.append(PlannedPin(workspace, name, group, row, is_direct))
    return planned


def split_imports(planned: Sequence[PlannedPin], workspace: int) -> list[list[dict[str, Any]]]:
    """Splits the imported pins of a workspace into imports."""
    rows = [pin.row for pin in planned if pin.workspace == workspace and not pin.is_direct]
    return [rows[start : start + IMPORT_ROWS] for start in range(0, len(rows), IMPORT_ROWS)]
