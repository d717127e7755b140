"""Runs the clients: they import rows and publish pins during the faults."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.administration import NewWorkspace
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.import_limits import MAX_REQUEST_BYTES
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.aiokafka_internals import discard
from tests.acceptance.rows import rows_for
from tests.tools.chaos.api_client import REQUEST_SECONDS, ApiClient, Document, open_client
from tests.tools.chaos.campaigns import CampaignClient
from tests.tools.chaos.history import (
    Campaign,
    Channel,
    Expected,
    History,
    RequestOutcome,
    Row,
    SinglePin,
    Submission,
)
from tests.tools.chaos.steering_client import SteeringClient

SIZES = (1, 2, 10, 60, 150, 300, 500)
PAUSE_SECONDS = (0.5, 2.0)
"""The pause between two requests of a client.

All clients together send several hundred rows a second. With more, restarted processes would lack
CPU time, and the run would measure only how long Python takes to import modules.
"""
IMPORTERS = (Channel.JSON, Channel.JSON, Channel.CSV, Channel.JSON, Channel.TOPIC, Channel.CSV)
"""The channels of each workspace's importing clients. One more client publishes single pins."""
CAMPAIGNS = 2
"""The number of each workspace's clients that steer their imports (campaigns.py)."""
SHARED_KEYS = 40
"""The number of keys that all clients of a workspace share for a while. They collide on purpose,
in different imports and in the same one.
"""
KEYS_CHANGE_EVERY = 10
"""The number of submissions after which the shared keys change, so that new races occur."""
FOLLOWED_SHARE = 0.7
"""The share of accepted imports that are polled."""
FOLLOWED_SECONDS = 8
POLL_SECONDS = 0.4
SENT_TWICE_SHARE = 0.3
REUSED_SHARE = 0.1
ROW_KINDS = {"valid": 75, "shared": 10, "scheduled": 5, "invalid": 4, "account": 3, "board": 3}
"""The number of rows of each kind in 100."""


class Clients:
    """The clients of all workspaces.

    Their choices follow from the history's seed, but their timing from the run.
    """

    def __init__(
        self,
        base_url: str,
        kafka: str,
        topic_prefix: str,
        workspaces: list[NewWorkspace],
        history: History,
        replica_url: str | None = None,
    ) -> None:
        """`replica_url` is that of a replica of ingest. Campaigns use it, without it are none."""
        self._replica_url = replica_url
        self._base_url = base_url
        self._kafka = kafka
        self._topic = TopicNames(topic_prefix)[TopicName.IMPORT_REQUESTS]
        self._workspaces = workspaces
        self._history = history
        self._stopping = asyncio.Event()
        self._followers: set[asyncio.Task[None]] = set()
        self.followed: set[str] = set()
        """The ids of jobs that are polled right now."""
        self._numbers = iter(range(10**9))

    async def run(self) -> None:
        """Runs all clients until `stop`, and then until all requests are answered."""
        async with AsyncExitStack() as stack:
            clients: list[Coroutine[Any, Any, None]] = []
            for number, workspace in enumerate(self._workspaces):
                api = await stack.enter_async_context(
                    open_client(self._base_url, workspace, self._history)
                )
                for index, channel in enumerate(IMPORTERS):
                    rng = random.Random(f"{self._history.seed}/{number}/{index}")
                    if channel is Channel.TOPIC:
                        clients.append(self._import_by_topic(number, rng))
                    else:
                        clients.append(self._import_by_http(number, channel, api, rng))
                clients.append(
                    self._publish(number, api, random.Random(f"{self._history.seed}/{number}/pins"))
                )
                if self._replica_url:
                    clients += [
                        self._run_campaign(number, api, f"{self._history.seed}/{number}/c{index}")
                        for index in range(CAMPAIGNS)
                    ]
            await asyncio.gather(*clients)
            await asyncio.gather(*self._followers)

    def stop(self) -> None:
        self._stopping.set()

    def probe(self, workspace: int) -> tuple[Submission, list[Document]]:
        """Builds an import of one valid row."""
        documents = rows_for(
            self._workspaces[workspace],
            1,
            prefix=f"probe-{self._history.seed}-{next(self._numbers)}",
        )
        return Submission(
            workspace, Channel.JSON, [Row(documents[0]["idempotency_key"], Expected.PUBLISHED)]
        ), documents

    async def _import_by_http(
        self, workspace: int, channel: Channel, api: ApiClient, rng: random.Random
    ) -> None:
        while not self._stopping.is_set():
            submission, documents = self._new_import(workspace, channel, rng)
            await api.import_rows(submission, documents)
            if (
                submission.outcome is RequestOutcome.ACCEPTED
                and submission.job_id
                and rng.random() < FOLLOWED_SHARE
            ):
                follower = asyncio.create_task(self._follow(api, submission.job_id))
                self._followers.add(follower)
                follower.add_done_callback(self._followers.discard)
            await self._pause(rng)

    async def _follow(self, api: ApiClient, job_id: str) -> None:
        self.followed.add(job_id)
        await api.poll(job_id, seconds=FOLLOWED_SECONDS, every=POLL_SECONDS)
        self.followed.discard(job_id)

    async def _import_by_topic(self, workspace: int, rng: random.Random) -> None:
        while not self._stopping.is_set():
            # A new producer after an error: the sequence numbers of the failed one may be wrong
            with suppress(KafkaError):
                async with _producer(self._kafka) as producer:
                    while not self._stopping.is_set():
                        await self._request_by_topic(workspace, producer, rng)
                        await self._pause(rng)

    async def _request_by_topic(
        self, workspace: int, producer: AIOKafkaProducer, rng: random.Random
    ) -> None:
        """Sends an import on the topic, sometimes twice. Raises KafkaError.

        Sometimes it also sends a different body with the same request id, which becomes a dead
        letter.
        """
        key = str(self._workspaces[workspace].id)
        submission, documents = self._new_import(workspace, Channel.TOPIC, rng)
        self._history.submissions.append(submission)
        request = {
            "request_id": submission.marker,
            "workspace_id": key,
            "source": submission.marker,
            "rows": documents,
        }
        await self._produce(producer, key, request)
        submission.outcome = RequestOutcome.ACCEPTED
        if rng.random() < SENT_TWICE_SHARE:
            await self._produce(producer, key, request)
        if rng.random() < REUSED_SHARE:
            submission.reused = RequestOutcome.UNKNOWN
            await self._produce(
                producer, key, {**request, "rows": documents[:1], "source": "another body"}
            )
            submission.reused = RequestOutcome.ACCEPTED

    async def _publish(self, workspace: int, api: ApiClient, rng: random.Random) -> None:
        while not self._stopping.is_set():
            key = (
                self._shared_key(rng)
                if rng.random() < 0.5
                else f"single-{self._history.seed}-{next(self._numbers)}"
            )
            document = rows_for(self._workspaces[workspace], 1, prefix="", idempotency_key=key)[0]
            await api.publish(SinglePin(workspace, key), document)
            await self._pause(rng)

    async def _run_campaign(self, workspace: int, api: ApiClient, name: str) -> None:
        assert self._replica_url is not None
        rng, owner = random.Random(name), self._workspaces[workspace]
        campaign = Campaign(workspace, owner.id)
        self._history.campaigns.append(campaign)
        steering = SteeringClient(api.http, self._replica_url, self._history, rng)
        client = CampaignClient(
            campaign,
            owner,
            steering,
            api,
            self._history,
            name=f"campaign-{name}",
            shared_key=self._shared_key,
            rng=rng,
        )
        while not self._stopping.is_set() and not campaign.is_broken:
            await client.run_round()

    def _new_import(
        self, workspace: int, channel: Channel, rng: random.Random
    ) -> tuple[Submission, list[Document]]:
        name = f"{self._history.seed}-{next(self._numbers)}"
        documents = rows_for(self._workspaces[workspace], rng.choice(SIZES), prefix=f"row-{name}")
        documents[0]["idempotency_key"] = f"first-{name}"
        rows = [Row(documents[0]["idempotency_key"], Expected.PUBLISHED)]
        rows += [self._vary(document, rng) for document in documents[1:]]
        return Submission(workspace, channel, rows), documents

    def _vary(self, document: Document, rng: random.Random) -> Row:
        """Gives some rows a shared key, a later time or an invalid value. Returns the sent row."""
        expected, scheduled = Expected.PUBLISHED, False
        match rng.choices(list(ROW_KINDS), list(ROW_KINDS.values()))[0]:
            case "shared":
                document["idempotency_key"] = self._shared_key(rng)
            case "scheduled":
                document["run_at"] = (
                    datetime.now(UTC) + timedelta(seconds=rng.uniform(1, 10))
                ).isoformat()
                scheduled = True
            case "invalid":
                document["title"], expected = "x" * 101, Expected.INVALID
            case "account":
                document["account_id"], expected = str(uuid4()), Expected.NO_ACCOUNT
            case "board":
                document["board_id"], expected = "no-such-board", Expected.NO_BOARD
        return Row(document["idempotency_key"], expected, scheduled)

    def _shared_key(self, rng: random.Random) -> str:
        epoch = len(self._history.submissions) // KEYS_CHANGE_EVERY
        return f"shared-{self._history.seed}-{epoch}-{rng.randrange(SHARED_KEYS)}"

    async def _produce(self, producer: AIOKafkaProducer, key: str, request: dict[str, Any]) -> None:
        event_headers = build_headers(
            EventType.IMPORT_REQUESTED,
            event_id=str(uuid4()),
            source="/chaos",
            time=datetime.now(UTC),
        )
        await producer.send_and_wait(
            self._topic, orjson.dumps(request), key=key.encode(), headers=event_headers
        )

    async def _pause(self, rng: random.Random) -> None:
        try:
            async with asyncio.timeout(rng.uniform(*PAUSE_SECONDS)):
                await self._stopping.wait()
        except TimeoutError:
            return


@asynccontextmanager
async def _producer(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    options = {
        "bootstrap_servers": kafka,
        "acks": "all",
        "enable_idempotence": True,
        "request_timeout_ms": REQUEST_SECONDS * 1000,
    }
    producer = AIOKafkaProducer(**options, max_request_size=MAX_REQUEST_BYTES)
    try:
        await producer.start()
        yield producer
    finally:
        await discard(producer)
