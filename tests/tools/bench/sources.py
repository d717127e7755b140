"""Sources of a load: they submit a workspace's imports over HTTP or through the topic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import httpx
import orjson

from deploy.administration import NewWorkspace
from shared.contract.cloudevents import EventType, build_headers
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from tests.tools.bench.bodies import (
    MARK_PLACEHOLDER,
    Outcomes,
    PreparedImport,
    build_json_import,
    build_realistic_rows,
    insert_mark,
    new_mark,
)

DEFAULT_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
UPSTREAM = "/bench"


class Source(Protocol):
    workspace: NewWorkspace
    expected_outcomes: Outcomes
    """Expected outcomes of each import."""
    id_field: str
    """Field of a job that holds the value `submit` returned."""

    async def submit(self, http: httpx.AsyncClient, /) -> str | None:
        """Submits one import.

        Returns the value of `id_field` once the import is accepted, or its request is sent. Returns
        None if it was refused.
        """


class HttpSource:
    id_field = "id"

    def __init__(self, workspace: NewWorkspace, body: PreparedImport | None = None) -> None:
        self.workspace = workspace
        self.body = body or build_json_import(build_realistic_rows(workspace))
        self.expected_outcomes = self.body.expected_outcomes
        self._headers = {"X-API-Key": workspace.api_key, "Content-Type": self.body.content_type}

    async def submit(self, http: httpx.AsyncClient) -> str | None:
        response = await http.post(
            self.body.path, content=self.body.build_copy(), headers=self._headers
        )
        return str(response.json()["id"]) if response.status_code == httpx.codes.ACCEPTED else None


class TopicSource:
    """Requests imports through the topic as an upstream system does: CloudEvents with a request id.

    The request id identifies the import, because a topic gives no response.
    """

    id_field = "request_id"

    def __init__(self, workspace: NewWorkspace, producer: RecordProducer, topic: str) -> None:
        self.workspace = workspace
        body = build_json_import(build_realistic_rows(workspace))
        self.expected_outcomes = body.expected_outcomes
        self._producer = producer
        self._topic = topic
        self._key = str(workspace.id).encode()
        request = {
            "request_id": MARK_PLACEHOLDER.decode(),
            "workspace_id": workspace.id,
            "source": "bench",
            "rows": orjson.Fragment(body.template),
        }
        self._template = orjson.dumps(request)

    async def submit(self, _http: httpx.AsyncClient) -> str:
        request_id = new_mark()
        headers = build_headers(
            EventType.IMPORT_REQUESTED, event_id=request_id, source=UPSTREAM, time=datetime.now(UTC)
        )
        value = insert_mark(self._template, request_id)
        await self._producer.send(self._topic, [Record(self._key, value, headers)])
        return request_id


class Sender:
    """One workspace's access to a gateway, for tests that send requests themselves."""

    def __init__(self, base_url: str, workspace: NewWorkspace) -> None:
        self.workspace = workspace
        self._base_url = base_url
        self._body = build_json_import(build_realistic_rows(workspace))

    def build_body(self) -> bytes:
        return self._body.build_copy()

    @asynccontextmanager
    async def client(
        self, limits: httpx.Limits = DEFAULT_LIMITS
    ) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"X-API-Key": self.workspace.api_key, "Content-Type": self._body.content_type}
        async with open_client(self._base_url, limits, headers) as client:
            yield client


def open_client(
    base_url: str, limits: httpx.Limits = DEFAULT_LIMITS, headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=60, trust_env=False, limits=limits
    )
