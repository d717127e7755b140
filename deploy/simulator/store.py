"""Keeps the simulator's state in SQLite: in a file, or in memory."""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.simulator.options import Settings
from deploy.simulator.schema import SCHEMA, SCHEMA_VERSION

ID_DIGITS = 18


def new_id() -> str:
    """Returns a random id of 18 digits."""
    first = 10 ** (ID_DIGITS - 1)
    return str(first + secrets.randbelow(9 * first))


def format_time(seconds: float) -> str:
    """Formats a time as Pinterest does: in seconds, without a zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class UnusableData(Exception):
    """The data file can't be used. The message says why, and what to do."""


class SimulatorStore:
    """One connection, used by one thread. A transaction contains no `await`."""

    def __init__(self, data: Path | None) -> None:
        """Opens the file, or creates it. Raises UnusableData."""
        try:
            self._connection = _connect(data)
            self._create_tables(data)
            self.settings = self._read_settings()
        except sqlite3.Error as error:
            raise UnusableData(
                f"{data} can't be used: {error}. Perhaps another simulator uses it, or it is not a "
                "file of the simulator: choose another file with --data."
            ) from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits at the end, rolls back on an exception."""
        self._connection.execute("begin immediate")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Raises TypeError if a name is unknown."""
        settings = replace(self.settings, **changes)
        with self.transaction() as database:
            database.executemany(
                "insert or replace into settings values (?, ?)",
                [(name, json.dumps(value)) for name, value in asdict(settings).items()],
            )
        self.settings = settings

    def close(self) -> None:
        self._connection.close()

    def _create_tables(self, data: Path | None) -> None:
        (version,) = self._connection.execute("pragma user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise UnusableData(
                f"{data} is of another version of the simulator. Delete it, start the simulator, "
                "and connect the accounts again."
            )
        self._connection.executescript(f"{SCHEMA} pragma user_version = {SCHEMA_VERSION};")

    def _read_settings(self) -> Settings:
        rows = self._connection.execute("select name, value from settings").fetchall()
        known = asdict(Settings())
        return Settings(
            **{row["name"]: json.loads(row["value"]) for row in rows if row["name"] in known}
        )


def _connect(data: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(data or ":memory:", timeout=1, isolation_level=None)
    connection.row_factory = sqlite3.Row
    # Without syncing, the file survives a kill of the process, but not of the machine. The
    # exclusive lock keeps a second simulator from the file: faults and limits are in memory
    connection.executescript(
        "pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = off;"
        " pragma foreign_keys = on;"
    )
    return connection


def now() -> float:
    return time.time()
