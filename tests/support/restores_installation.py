"""A Pinflow with its own Kafka and Postgres, which a test may restore to an earlier state."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import psycopg
from aiokafka import TopicPartition
from psycopg import sql

from deploy.administration import NewWorkspace
from deploy.local.kafka import KafkaCluster
from deploy.local.layout import CHECKOUT
from deploy.local.postgres import Postgres
from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support.deployment import Deployment, deployed, wait_for_job
from tests.support.infrastructure import fresh_database, kafka_server, postgres_server
from tests.support.kafka import read_committed_offsets
from tests.support.processes import RunningProgram
from tests.support.restores import recreate, restore, snapshot
from tests.support.restores_state import (
    MAX_DIFFERENCES_SHOWN,
    WorkspaceEvents,
    WorkspaceState,
    find_differences,
    find_duplicates,
    read_workspace_events,
    read_workspace_state,
)
from tests.support.waiting import wait_until

SERVICES_WITH_POSITIONS = ("publisher", "status", "webhooks")
"""The services that store positions in Postgres."""
RECOVERY_SECONDS = 90.0
"""Deadline of a recovery.

A running publisher waits 20 s before it replays: another publisher may still send outcomes.
"""


class Position(NamedTuple):
    next_offset: int
    replay_until: int | None
    refused: str | None


@dataclass
class Installation:
    """A deployment and its servers. `broker` and `database` are the servers' programs."""

    deployment: Deployment
    kafka: KafkaCluster
    broker: RunningProgram
    postgres: Postgres
    database: RunningProgram
    settings: KafkaSettings
    database_url: str

    def client(self, workspace: NewWorkspace) -> httpx.Client:
        headers = {"X-API-Key": workspace.api_key}
        return httpx.Client(
            base_url=self.deployment.base_url,
            headers=headers,
            timeout=40,
            trust_env=False,
        )

    def stop_services(self) -> None:
        self.deployment.close()

    def start_services(self) -> None:
        self.deployment.start()

    def back_up_postgres(self) -> Path:
        return snapshot(self.database)

    def restore_postgres(self, copy: Path) -> None:
        restore(self.database, copy)
        self.database.wait_until(self.postgres.is_ready)

    def back_up_kafka(self) -> Path:
        return snapshot(self.broker)

    def restore_kafka(self, copy: Path) -> None:
        restore(self.broker, copy)
        self._wait_for_kafka()

    def recreate_kafka(self) -> None:
        recreate(self.broker, self.kafka)
        self._wait_for_kafka()
        asyncio.run(create_topics(self.settings))

    def _wait_for_kafka(self) -> None:
        self.broker.wait_until(lambda: asyncio.run(self.kafka.is_ready()))

    def read_positions(self, schema: str) -> dict[TopicPartition, Position]:
        query = "select topic, partition, next_offset, replay_until, refused from {}.positions"
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(sql.SQL(query).format(sql.Identifier(schema))).fetchall()
        return {TopicPartition(topic, number): Position(*rest) for topic, number, *rest in rows}

    def read_committed_offsets(self, service: str) -> dict[TopicPartition, int]:
        group = f"{self.settings.topic_prefix}.{service}"
        return asyncio.run(read_committed_offsets(self.settings.kafka_bootstrap_servers, group))

    def find_refused_positions(self) -> dict[tuple[str, TopicPartition], str]:
        """Returns the reasons of refused positions, by schema and partition."""
        return {
            (schema, partition): position.refused
            for schema in SERVICES_WITH_POSITIONS
            for partition, position in self.read_positions(schema).items()
            if position.refused is not None
        }

    def is_replaying(self) -> bool:
        """Returns whether a stored position is below the end of its replay."""
        return any(
            position.replay_until is not None and position.next_offset < position.replay_until
            for schema in SERVICES_WITH_POSITIONS
            for position in self.read_positions(schema).values()
        )

    def has_announced_all(self) -> bool:
        """Returns whether the outbox is empty: schedules and direct calls write to it."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute("select from publisher.outbox").rowcount == 0

    def has_matching_offsets(self) -> bool:
        """Returns whether Kafka's committed offsets equal the stored positions.

        The publisher's position in outcomes has no group, so it is not compared.
        """
        for service in SERVICES_WITH_POSITIONS:
            stored = self.read_positions(service)
            for partition, offset in self.read_committed_offsets(service).items():
                if partition in stored and stored[partition].next_offset != offset:
                    return False
        return True

    def read_state(self, workspace: NewWorkspace, jobs: Sequence[str]) -> WorkspaceState:
        with self.client(workspace) as client:
            return read_workspace_state(client, self.database_url, workspace, jobs)

    def count_pin_events(self, workspace: NewWorkspace) -> int:
        """Counts the workspace's pin events, with repetitions."""
        return self._read_events(workspace).count

    def require_recovered(
        self,
        workspace: NewWorkspace,
        before: WorkspaceState,
        *,
        since: Sequence[str] = (),
    ) -> None:
        """Waits until the workspace's state equals `before`, and requires no duplicates.

        `since` are the ids of jobs that were accepted after `before`. Their pins may be new.
        """
        remaining: list[str] = []

        def is_recovered() -> bool:
            remaining[:] = find_differences(
                before, self.read_state(workspace, list(before.jobs)), since
            )
            return not remaining and not self.is_replaying()

        try:
            wait_until(is_recovered, seconds=RECOVERY_SECONDS)
        except AssertionError:
            raise AssertionError(self._report(remaining)) from None
        self.require_no_duplicates(workspace, self.read_state(workspace, [*before.jobs, *since]))

    def require_no_duplicates(self, workspace: NewWorkspace, record: WorkspaceState) -> None:
        """Requires that no key is published twice and no row has two outcomes."""
        duplicates = find_duplicates(self._read_events(workspace), record)
        assert not duplicates, self._report(duplicates)

    def _read_events(self, workspace: NewWorkspace) -> WorkspaceEvents:
        kafka, prefix = self.settings.kafka_bootstrap_servers, self.settings.topic_prefix
        return read_workspace_events(kafka, prefix, workspace)

    def _report(self, problems: list[str]) -> str:
        positions = {schema: self.read_positions(schema) for schema in SERVICES_WITH_POSITIONS}
        lines = [
            f"{len(problems)} problems",
            *problems[:MAX_DIFFERENCES_SHOWN],
            f"positions: {positions}",
        ]
        return "\n".join([*lines, self.deployment.logs()])

    def accept_losses(self) -> str:
        """Accepts all losses, as an operator does, by `pinflow recover --accept --yes`."""
        code = "from deploy.cli.main import main; main()"
        command = [sys.executable, "-c", code, "recover", "--accept", "--yes"]
        environment = {
            **os.environ,
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "PINFLOW_TOPIC_PREFIX": self.settings.topic_prefix,
            "PINFLOW_DATABASE_URL": self.database_url,
        }
        result = subprocess.run(
            command,
            env=environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def get_readiness(self, service: str) -> httpx.Response:
        return httpx.get(
            f"{self.deployment.service_url(service)}/readyz", timeout=10, trust_env=False
        )

    def add_board(self, workspace: NewWorkspace, board_id: str) -> None:
        """Adds a board to the first account, as an operator may do after a failure."""
        statement = (
            "insert into access.boards (account_id, board_id, workspace_id, name) values (%s, %s, "
            "%s, 'Late') on conflict do nothing"
        )
        account = workspace.accounts[0].id
        self._execute(statement, (account, board_id, workspace.id))

    def add_account(self, workspace: NewWorkspace, account_id: UUID) -> None:
        """Adds an account with one board, board-1."""
        account = (
            "insert into access.accounts (id, workspace_id, display_name, username) values (%s, "
            "%s, 'Late', %s)"
        )
        self._execute(account, (account_id, workspace.id, f"late-{account_id.hex[:8]}"))
        board = (
            "insert into access.boards (account_id, board_id, workspace_id, name) values (%s, "
            "'board-1', %s, 'Late')"
        )
        self._execute(board, (account_id, workspace.id))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), values)


@contextmanager
def installed(directory: Path, replicas: int = 1, **variables: str) -> Iterator[Installation]:
    """Starts servers and services, waits until they are ready and yields the installation."""
    with (
        kafka_server(directory) as (kafka, broker),
        postgres_server(directory) as (postgres, database),
        fresh_database(postgres.url) as url,
    ):
        prefix = f"t-{uuid4().hex[:8]}"
        settings = KafkaSettings(
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            topic_prefix=prefix,
        )
        asyncio.run(create_topics(settings))
        names = {"kafka": kafka.bootstrap_servers, "database_url": url, "topic_prefix": prefix}
        quick = {"access_cache_seconds": "0.5", "database_timeout_seconds": "3"}
        with deployed(directory, replicas, **names, **quick, **variables) as deployment:
            yield Installation(deployment, kafka, broker, postgres, database, settings, url)


def submit(client: httpx.Client, rows: list[dict[str, Any]]) -> str:
    """Imports rows and returns the job's id."""
    answer = client.post("/v1/pins/imports/json", json=rows)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def submit_at_once(client: httpx.Client, imports: Sequence[list[dict[str, Any]]]) -> list[str]:
    """Submits all imports at the same time, and returns the jobs' ids."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(partial(submit, client), imports))


def wait_until_completed(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Waits until the job has ended, and returns it.

    Retries on 503 `status_behind`: on a busy machine the status service may need more than the 2 s
    that its endpoint waits for a new job.
    """
    path = f"/v1/pins/imports/{job_id}"
    wait_until(lambda: client.get(path).status_code != HTTPStatus.SERVICE_UNAVAILABLE)
    job = wait_for_job(client, job_id)
    assert job["completed_at"] is not None, job
    return job


def read_counters(job: dict[str, Any]) -> tuple[int, int, int]:
    """Returns the numbers of created, existing and failed rows."""
    return job["created_rows"], job["existing_rows"], job["failed_rows"]
