"""Submits imports to an equal-work peer while its processes are killed, and judges the result."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID, uuid4

import httpx
import psycopg
from psycopg import sql

from tests.support.waiting import wait_until
from tests.tools.bench.bodies import build_json_import, build_mixed_rows, build_realistic_rows
from tests.tools.bench.peers.equal_work.judge import EqualWorkStore, find_lost_imports
from tests.tools.bench.peers.equal_work.peers import REDIS
from tests.tools.bench.peers.peer import PeerServers
from tests.tools.bench.peers.processes import RunningProcesses

IMPORTS = "/v1/pins/imports"
RESUBMISSION_SECONDS = 60
KEPT_KEYS = ("imports", "imports-sent-at")
"""The keys of kept_imports.py, which only the peers' own Python can import."""


@contextmanager
def open_client(peer: RunningProcesses, servers: PeerServers) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": servers.workspace.api_key}
    with httpx.Client(
        base_url=peer.base_url, headers=headers, timeout=40, trust_env=False
    ) as client:
        yield client


@dataclass
class Submissions:
    """Submits imports from threads. Repeats a lost request with its Idempotency-Key."""

    peer: RunningProcesses
    servers: PeerServers
    accepted: dict[UUID, int] = field(default_factory=dict)
    """Numbers of rows by job."""
    lost_answers: int = 0
    errors: list[BaseException] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def has_accepted(self, imports: int) -> bool:
        """Returns whether so many imports were accepted, or the load has failed."""
        return bool(self.errors) or len(self.accepted) >= imports

    @contextmanager
    def in_threads(self, work: Callable[[], None], threads: int = 1) -> Iterator[None]:
        """Runs `work` in threads, and waits for their end. Fails if one of them failed."""

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - the test's own thread reports it
                self.errors.append(error)

        started = [threading.Thread(target=run) for _ in range(threads)]
        for thread in started:
            thread.start()
        try:
            yield
        finally:
            self.ending.set()
            for thread in started:
                thread.join()
        assert not self.errors

    def submit_mixed(self) -> None:
        """Submits mixed imports until `ending` is set."""
        prepared = build_json_import(build_mixed_rows(self.servers.workspace)[0])
        while not self.ending.is_set():
            self._submit(prepared.build_copy())

    def submit_import(self) -> None:
        self._submit(build_json_import(build_realistic_rows(self.servers.workspace)).build_copy())

    def _submit(self, body: bytes) -> None:
        headers = {"Idempotency-Key": uuid4().hex, "Content-Type": "application/json"}
        answers: list[httpx.Response] = []

        def is_accepted() -> bool:
            try:
                with open_client(self.peer, self.servers) as client:
                    answers.append(client.post(f"{IMPORTS}/json", content=body, headers=headers))
            except httpx.TransportError:
                self.lost_answers += 1
                return False
            return answers[-1].is_success

        wait_until(is_accepted, seconds=RESUBMISSION_SECONDS)
        answer = answers[-1].json()
        self.accepted[UUID(answer["id"])] = answer["total_rows"]


def wait_until_announced(store: EqualWorkStore) -> None:
    wait_until(lambda: store.count_waiting_imports() == 0)


def require_exact(submissions: Submissions, store: EqualWorkStore) -> None:
    """Waits until everything has settled and was announced, and judges it."""
    wait_until(
        lambda: store.read_number("select count(*) from jobs where settled_at is null") == 0,
        seconds=60,
    )
    wait_until_announced(store)
    assert find_lost_imports(submissions.accepted, store.read_jobs()) == []
    assert store.find_inconsistencies() == []


def restart(peer: RunningProcesses, victim: str) -> None:
    peer.programs[victim].start()
    peer.wait_until_ready()


@contextmanager
def locked(store: EqualWorkStore, table: LiteralString) -> Iterator[psycopg.Connection]:
    """Locks a table, so that a transaction stops there. A rollback of the connection unlocks it.

    Start the load inside: an import that came before the lock would not stop.
    """
    with psycopg.connect(store.url) as connection:
        connection.execute(sql.SQL("lock table {} in exclusive mode").format(sql.Identifier(table)))
        yield connection


def wait_until_stopped(store: EqualWorkStore, application: LiteralString) -> None:
    """Waits until a process of the peer, named as in pg_stat_activity, waits for a lock."""
    waiting = f"""
        select count(*) from pg_stat_activity where datname = current_database()
            and application_name = '{application}' and wait_event_type = 'Lock'
    """
    wait_until(lambda: store.read_number(waiting) > 0)


def count_kept_imports(peer: RunningProcesses) -> int:
    return ask_redis(peer, f"HLEN {KEPT_KEYS[0]}")


def ask_redis(peer: RunningProcesses, command: str) -> int:
    """Runs a command that returns a number, by Redis' own protocol."""
    port = peer.programs[REDIS].program.command[2]
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return int(connection.recv(64).removeprefix(b":"))
