"""Imports whose outcomes a wrong replay would change."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.support.restores_installation import (
    Installation,
    read_counters,
    submit,
    submit_at_once,
    wait_until_completed,
)
from tests.support.waiting import wait_until

LATE_BOARD = "board-late"
LATER = timedelta(days=3)
SOON = timedelta(seconds=3)
OVERLAPPING_IMPORTS = 8
"""The number of imports that share keys. They are spread over several of the six partitions."""
SHARED_KEYS = 20


class ImportScenario:
    """One workspace's imports, before and after a backup."""

    def __init__(self, installation: Installation, workspace: NewWorkspace) -> None:
        self.installation = installation
        self.workspace = workspace
        self.late_account: UUID = uuid4()
        self.jobs: list[str] = []

    def import_before_backup(self, client: httpx.Client) -> None:
        """Imports rows and waits until they are settled."""
        jobs = [
            submit(client, rows_for(self.workspace, 40, prefix="early")),
            submit(client, rows_for(self.workspace, 1, prefix="late-early", **self._late_board)),
        ]
        self.jobs += jobs
        assert read_counters(wait_until_completed(client, jobs[0])) == (40, 0, 0)
        assert read_counters(wait_until_completed(client, jobs[1])) == (0, 0, 1)

    def import_after_backup(self, client: httpx.Client) -> None:
        """Imports rows that depend on earlier rows, and waits until they are settled."""
        self._import_keys_again(client)
        self._fix_failures(client)
        self._schedule(client)
        self._import_overlapping(client)
        self.wait_until_published()

    def add_late_board(self) -> None:
        self.installation.add_board(self.workspace, LATE_BOARD)

    def wait_until_published(self) -> None:
        """Waits until every pin that is due within a day is published."""
        query = (
            "select from publisher.pins where workspace_id = %s and state = 'scheduled' and run_at "
            "< now() + interval '1 day'"
        )

        def is_published() -> bool:
            with psycopg.connect(self.installation.database_url) as connection:
                return connection.execute(query, (self.workspace.id,)).rowcount == 0

        wait_until(is_published)

    def _import_keys_again(self, client: httpx.Client) -> None:
        rows = rows_for(self.workspace, 20, prefix="early", title="Other")
        job = wait_until_completed(client, self._submit(client, rows))
        assert read_counters(job) == (0, 20, 0)
        assert {result["payload_matches"] for result in job["results"]} == {False}

    def _fix_failures(self, client: httpx.Client) -> None:
        late = [
            *rows_for(self.workspace, 3, prefix="late-board", **self._late_board),
            *rows_for(self.workspace, 1, prefix="late-early", **self._late_board),
            *rows_for(self.workspace, 3, prefix="late-account", **self._late_account),
        ]
        assert read_counters(wait_until_completed(client, self._submit(client, late))) == (0, 0, 7)
        self.add_late_board()
        self.installation.add_account(self.workspace, self.late_account)
        assert read_counters(wait_until_completed(client, self._submit(client, late))) == (7, 0, 0)
        assert read_counters(wait_until_completed(client, self._submit(client, late))) == (0, 7, 0)

    def _schedule(self, client: httpx.Client) -> None:
        now = datetime.now(UTC)
        rows = [
            *rows_for(self.workspace, 5, prefix="later", run_at=(now + LATER).isoformat()),
            *rows_for(self.workspace, 5, prefix="soon", run_at=(now + SOON).isoformat()),
        ]
        assert read_counters(wait_until_completed(client, self._submit(client, rows))) == (10, 0, 0)
        # The result of a scheduled row names the schedule, and after its publication the pin
        assert read_counters(wait_until_completed(client, self._submit(client, rows))) == (0, 10, 0)

    def _import_overlapping(self, client: httpx.Client) -> None:
        for turn in range(2):
            imports = [
                [
                    *rows_for(self.workspace, SHARED_KEYS, prefix=f"shared-{turn}"),
                    *rows_for(self.workspace, 20, prefix=f"own-{turn}-{number}"),
                ]
                for number in range(OVERLAPPING_IMPORTS)
            ]
            jobs = submit_at_once(client, imports)
            self.jobs += jobs
            created = [wait_until_completed(client, job_id)["created_rows"] for job_id in jobs]
            assert sum(created) == SHARED_KEYS + OVERLAPPING_IMPORTS * 20

    def import_again(self, client: httpx.Client) -> None:
        """Imports existing keys and a new one. Only the new one is published."""
        key = uuid4().hex[:8]
        rows = [
            *rows_for(self.workspace, SHARED_KEYS, prefix="shared-0"),
            *rows_for(self.workspace, 20, prefix="own-1-3"),
            *rows_for(self.workspace, 1, prefix=f"new-{key}"),
        ]
        assert read_counters(wait_until_completed(client, submit(client, rows))) == (
            1,
            SHARED_KEYS + 20,
            0,
        )

    def _submit(self, client: httpx.Client, rows: list[dict[str, Any]]) -> str:
        self.jobs.append(submit(client, rows))
        return self.jobs[-1]

    @property
    def _late_board(self) -> dict[str, str]:
        return {"account_id": str(self.workspace.accounts[0].id), "board_id": LATE_BOARD}

    @property
    def _late_account(self) -> dict[str, str]:
        return {"account_id": str(self.late_account), "board_id": "board-1"}


class ImportingClient:
    """Imports in a thread, with keys that other clients use too, and records the ended jobs."""

    def __init__(self, installation: Installation, workspace: NewWorkspace, number: int) -> None:
        self._installation = installation
        self._workspace = workspace
        self._number = number
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.jobs: list[str] = []
        self.ended_jobs: dict[str, dict[str, Any]] = {}
        """Ended jobs as the API returned them, by id."""
        self.missing_jobs: list[str] = []
        """Accepted jobs for which the API once returned 404."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._installation.client(self._workspace) as client:
            turn = 0
            while not self._stopping.is_set():
                turn += 1
                rows = [
                    *rows_for(self._workspace, 20, prefix=f"all-{turn}"),
                    *rows_for(self._workspace, 20, prefix=f"client-{self._number}-{turn}"),
                ]
                try:
                    self._import(client, rows)
                except httpx.TransportError:
                    self._stopping.wait(0.2)

    def _import(self, client: httpx.Client, rows: list[dict[str, Any]]) -> None:
        answer = client.post("/v1/pins/imports/json", json=rows)
        if answer.status_code != HTTPStatus.ACCEPTED:
            assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE, answer.text
            self._stopping.wait(0.2)
            return
        self.jobs.append(answer.json()["id"])
        path = f"/v1/pins/imports/{self.jobs[-1]}"
        answer = client.get(path, headers={"Prefer": "wait=3"})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            self.missing_jobs.append(self.jobs[-1])
        elif answer.is_success and answer.json()["completed_at"] is not None:
            self.ended_jobs[self.jobs[-1]] = answer.json()


@contextmanager
def importing(
    installation: Installation,
    workspace: NewWorkspace,
    count: int = 3,
) -> Iterator[list[ImportingClient]]:
    """Runs clients that import while the body runs."""
    clients = [ImportingClient(installation, workspace, number) for number in range(count)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()
