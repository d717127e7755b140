"""Pins and schedules of every kind in the keyed store, and a pure model of their lists."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from services.publisher.tables import pins
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.database import Database

ACCOUNTS = [UUID(int=number) for number in (1, 2, 3)]
BOARDS = ["board-1", "board-2", "Board-1"]
TITLES = [
    "lamp",
    "Lamp",
    "Äpfel",
    "äpfel",
    "50% off",
    "505 off",
    "a_b",
    "axb",
    "back\\slash",
    "zebra",
    "Zebra lamp",
    "émile",
]
LINKS = [None, "https://shop.example/Lamps?q=50%25", "https://shop.example/a_b"]
DESCRIPTIONS = [None, "A lamp for long evenings", "ÄPFEL and pears", "100%"]
BEGINNING = datetime(2020, 1, 1, 12, tzinfo=UTC)
"""The run_at of due schedules: all of them are due when tests run."""
DISTANT = datetime(2120, 1, 1, tzinfo=UTC)
"""The run_at of schedules that do not become due while tests run."""
MINUTE = timedelta(minutes=1)

Pin = dict[str, Any]

_IDS = random.Random(11)


def pin(
    workspace_id: UUID, *, created_at: datetime = BEGINNING, state: str = "published", **fields: Any
) -> Pin:
    """Builds a row of the table."""
    pin_id = UUID(int=_IDS.getrandbits(128))
    by_state: dict[str, Pin] = {
        "published": {"published_at": created_at},
        "failed": {
            "failed_at": created_at,
            "error_code": "board_not_found",
            "error_message": "board_id: no board",
        },
        "scheduled": {"run_at": DISTANT},
        "cancelled": {"run_at": DISTANT},
    }
    empty = dict.fromkeys(column.name for column in pins.c)
    return {
        **empty,
        "pin_id": pin_id,
        "workspace_id": workspace_id,
        "account_id": ACCOUNTS[0],
        "fingerprint": pin_id,
        "created_at": created_at,
        "updated_at": created_at,
        "state": state,
        "idempotency_key": str(pin_id),
        "board_id": BOARDS[0],
        "title": "lamp",
        "image_url": "https://cdn.example/lamp.jpg",
        **by_state[state],
        **fields,
    }


def build_varied_pins(workspace_id: UUID, count: int, seed: int = 7) -> list[Pin]:
    """Builds pins of all states, with ties and missing values in everything that lists sort by."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        created_at = BEGINNING + number // 3 * MINUTE
        state = rng.choices(["published", "failed", "scheduled", "cancelled"], [6, 2, 3, 1])[0]
        fields: Pin = {
            "account_id": rng.choice(ACCOUNTS),
            "board_id": rng.choice(BOARDS),
            "title": rng.choice(TITLES),
            "description": rng.choice(DESCRIPTIONS),
            "link_url": rng.choice(LINKS),
            "deleted_at": BEGINNING if rng.random() < 0.1 else None,
        }
        if state in {"scheduled", "cancelled"} or rng.random() < 0.3:
            # Long ago or far ahead, three pins with each time
            ahead = state in {"scheduled", "cancelled"} and rng.random() < 0.5
            fields["run_at"] = (DISTANT if ahead else BEGINNING) + number // 3 * MINUTE
        if state == "published":
            fields["published_at"] = BEGINNING + rng.randrange(20) * MINUTE
        if state == "failed":
            fields["error_code"] = rng.choice(["board_not_found", "account_not_found"])
        rows.append(pin(workspace_id, created_at=created_at, state=state, **fields))
    return rows


async def store_pins(database: Database, rows: Iterable[Pin]) -> None:
    async with database.transaction() as connection:
        await connection.execute(insert(pins), list(rows))


@dataclass(frozen=True)
class ListModel:
    """The model of a list. `status` returns a row's status, `names` its id in the list."""

    rows: Sequence[Pin]
    status: Callable[[Pin], str | None]
    window: str
    names: Callable[[Pin], str]

    def expected(self, *, sort: str, **filters: Any) -> list[str]:
        """Returns the ids that the list must have, in order."""
        matching = [
            row for row in self.rows if self.status(row) is not None and self._matches(row, filters)
        ]
        key, _, direction = sort.rpartition("_")
        descending = direction == "desc"
        present = sorted(
            (row for row in matching if self._value(row, key) is not None),
            key=self._build_sort_key(key),
            reverse=descending,
        )
        missing = sorted(
            (row for row in matching if self._value(row, key) is None), key=_id, reverse=descending
        )
        return [self.names(row) for row in (*present, *missing)]

    def with_rows(self, rows: Sequence[Pin]) -> "ListModel":
        return replace(self, rows=rows)

    def _build_sort_key(self, key: str) -> Callable[[Pin], tuple[Any, UUID]]:
        return lambda row: (self._value(row, key), _id(row))

    def _value(self, row: Pin, key: str) -> Any:
        if key == "status":
            return self.status(row)
        return row["title"].lower() if key == "title" else row[key]

    def _matches(self, row: Pin, filters: dict[str, Any]) -> bool:
        conditions: dict[str, Callable[[Any], bool]] = {
            "account_id": lambda value: str(row["account_id"]) == value,
            "board_id": lambda value: row["board_id"] == value,
            "status": lambda value: self.status(row) == value,
            "error_code": lambda value: row["error_code"] == value,
            "since": lambda value: row[self.window] >= datetime.fromisoformat(value),
            "until": lambda value: row[self.window] < datetime.fromisoformat(value),
            "q": lambda value: any(
                value.lower() in (row[name] or "").lower()
                for name in ("title", "description", "link_url")
            ),
            "removed": lambda value: value == "false",
        }
        return all(conditions[name](value) for name, value in filters.items())


def _id(row: Pin) -> UUID:
    pin_id: UUID = row["pin_id"]
    return pin_id


def _is_due(row: Pin) -> bool:
    return bool(row["state"] == "scheduled" and row["run_at"] < DISTANT)


def _compute_pin_status(row: Pin) -> str | None:
    if row["deleted_at"] is not None:
        return None
    return (
        "queued"
        if _is_due(row)
        else row["state"]
        if row["state"] in {"published", "failed"}
        else None
    )


def _compute_schedule_status(row: Pin) -> str | None:
    if row["deleted_at"] is not None or row["run_at"] is None:
        return None
    return (
        "queued"
        if _is_due(row)
        else {"published": "done", "cancelled": "canceled"}.get(row["state"], row["state"])
    )


def model_pins(rows: Sequence[Pin]) -> ListModel:
    return ListModel(rows, _compute_pin_status, "created_at", lambda row: str(row["pin_id"]))


def model_schedules(rows: Sequence[Pin]) -> ListModel:
    return ListModel(
        rows, _compute_schedule_status, "run_at", lambda row: str(derive_schedule_id(row["pin_id"]))
    )
