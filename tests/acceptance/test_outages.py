"""Pauses and kills Kafka and Postgres under a running Pinflow.

Errors are clear meanwhile, and every import settles afterwards.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from deploy.administration import NewWorkspace
from services.ingest.config import IngestSettings
from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.support.deployment import Deployment, deployed, wait_for_job
from tests.support.infrastructure import fresh_database, kafka_server, postgres_server
from tests.support.processes import RunningProgram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEADLINE_SECONDS = IngestSettings().acceptance_deadline_seconds
MARGIN_SECONDS = 15.0
"""Additional time for a busy machine. The gateway would wait for 45 s."""


class Installation:
    """A Pinflow with its own servers, which a test may pause or kill."""

    def __init__(
        self,
        deployment: Deployment,
        kafka: RunningProgram,
        postgres: RunningProgram,
        workspace: NewWorkspace,
    ) -> None:
        self.deployment = deployment
        self.kafka = kafka
        self.postgres = postgres
        self.workspace = workspace

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"X-API-Key": key or self.workspace.api_key}
        return httpx.Client(
            base_url=self.deployment.base_url, headers=headers, timeout=40, trust_env=False
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory: Path = tmp_path_factory.mktemp("outages")
    with (
        kafka_server(directory) as (kafka, broker),
        postgres_server(directory) as (postgres, database),
        fresh_database(postgres.url) as url,
    ):
        settings = KafkaSettings(
            kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix=f"t-{uuid4().hex[:8]}"
        )
        asyncio.run(create_topics(settings))
        names = {
            "kafka": kafka.bootstrap_servers,
            "database_url": url,
            "topic_prefix": settings.topic_prefix,
        }
        with deployed(
            directory, **names, access_cache_seconds="0.5", database_timeout_seconds="3"
        ) as deployment:
            yield Installation(deployment, broker, database, new_workspace(url))


def read_error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


def test_invariant_9_with_postgres_frozen_imports_are_accepted_and_settle_later(
    installation: Installation,
) -> None:
    with installation.client() as client, installation.client("pf_unknown") as stranger:
        assert client.get("/v1/pins").status_code == 200
        client.post(
            "/v1/pins/imports/json", json=rows_for(installation.workspace, 1, prefix="before")
        ).raise_for_status()
        installation.postgres.pause()
        try:
            accepted = client.post(
                "/v1/pins/imports/json", json=rows_for(installation.workspace, 50, prefix="frozen")
            )
            assert accepted.status_code == 202, accepted.text
            listing = client.get("/v1/pins")
            assert read_error(listing) == (503, "database_unavailable")
            assert "retry-after" in listing.headers
            assert read_error(client.get(f"/v1/pins/imports/{accepted.json()['id']}")) == (
                503,
                "database_unavailable",
            )
            # Not 401: the key cannot be checked
            assert read_error(stranger.get("/v1/pins")) == (503, "database_unavailable")
        finally:
            installation.postgres.resume()
        installation.deployment.wait_until_ready()
        job = wait_for_job(client, accepted.json()["id"])
        assert (job["status"], job["created_rows"]) == ("completed", 50), (
            installation.deployment.logs()
        )


def test_invariant_9_with_postgres_killed_everything_settles_after_its_restart(
    installation: Installation,
) -> None:
    with installation.client() as client:
        accepted = [
            client.post(
                "/v1/pins/imports/json",
                json=rows_for(installation.workspace, 100, prefix=f"killed-{n}"),
            )
            for n in range(5)
        ]
        # A child that has not ended yet would keep Postgres from starting again
        installation.postgres.kill_with_children()
        accepted.append(
            client.post(
                "/v1/pins/imports/json",
                json=rows_for(installation.workspace, 100, prefix="killed-while-away"),
            )
        )
        installation.postgres.start()
        installation.deployment.wait_until_ready()
        assert {answer.status_code for answer in accepted} == {202}
        jobs = [wait_for_job(client, answer.json()["id"]) for answer in accepted]
        assert [(job["status"], job["created_rows"]) for job in jobs] == [("completed", 100)] * 6, (
            installation.deployment.logs()
        )


def test_invariant_9_with_kafka_frozen_no_import_is_acknowledged_and_queries_work(
    installation: Installation,
) -> None:
    with installation.client() as client:
        rows = rows_for(installation.workspace, 20, prefix="kafka-frozen")
        installation.kafka.pause()
        try:
            refused = client.post("/v1/pins/imports/json", json=rows)
            # The import was sent, so Kafka may append it after the pause
            assert read_error(refused) == (503, "acceptance_unknown")
            assert refused.elapsed.total_seconds() < DEADLINE_SECONDS + MARGIN_SECONDS
            assert "retry-after" in refused.headers
            assert client.get("/v1/pins/imports").status_code == 200
            single = client.post(
                "/v1/pins",
                json=rows_for(installation.workspace, 1, prefix="single-while-kafka-frozen")[0],
            )
            assert single.status_code == 201  # its event waits in the outbox
        finally:
            installation.kafka.resume()
        installation.deployment.wait_until_ready()
        # Ingest is ready as soon as it is connected to one partition: a careful client tries again
        job = wait_for_job(client, submit_until_accepted(client, rows))
        assert job["status"] == "completed"
        # Existing, if the first import was appended
        assert job["created_rows"] + job["existing_rows"] == 20


def test_invariant_9_with_kafka_killed_everything_settles_after_its_restart(
    installation: Installation,
) -> None:
    with installation.client() as client:
        before = client.post(
            "/v1/pins/imports/json",
            json=rows_for(installation.workspace, 100, prefix="kafka-killed"),
        )
        wait_for_job(client, before.json()["id"])
        installation.kafka.kill()
        rows = rows_for(installation.workspace, 100, prefix="kafka-away")
        assert read_error(client.post("/v1/pins/imports/json", json=rows)) == (
            503,
            "broker_unavailable",
        )
        installation.kafka.start()
        installation.deployment.wait_until_ready()
        job = wait_for_job(client, submit_until_accepted(client, rows))
        assert (job["status"], job["created_rows"]) == ("completed", 100), (
            installation.deployment.logs()
        )
