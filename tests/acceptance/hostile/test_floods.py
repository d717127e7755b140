"""Many slow clients or large bodies at once.

Slow connections are closed, memory is bounded, and other clients are served meanwhile.
"""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import create_client, new_workspace
from tests.acceptance.hostile.conftest import GATEWAY_SECONDS, LONG, memory_bounded, read_memory
from tests.acceptance.hostile.requests import get, post, row
from tests.acceptance.hostile.wire import Caller
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, wait_for_job
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SLOW = 250
UPLOADS = 200
SLACK = 13.0
"""Seconds for a busy machine."""
MEGABYTE = 1024 * 1024


class SlowSender:
    """A client that sends the start of a request and then a byte every 0.5 s."""

    def __init__(self, beginning: bytes, filler: bytes = b"") -> None:
        self._beginning = beginning
        self._filler = filler
        self.seconds = 0.0
        """Seconds until its connection was closed or answered."""
        self.answer = b""

    async def run(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        started = time.monotonic()
        sending = asyncio.create_task(self._send(writer))
        with suppress(OSError):
            # Returns at an answer or at the end of the connection
            self.answer = await reader.read(65536)
        self.seconds = time.monotonic() - started
        sending.cancel()
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(self._beginning)
            while self._filler:
                await asyncio.sleep(0.5)
                writer.write(self._filler)
                await writer.drain()


class NormalClient:
    """Imports and queries all the time. `seconds` are the durations of its rounds."""

    def __init__(self, client: httpx.Client, workspace: NewWorkspace) -> None:
        self._client = client
        self._workspace = workspace
        self.seconds: list[float] = []
        self.errors: list[BaseException] = []

    @contextmanager
    def running(self) -> Iterator["NormalClient"]:
        stopping = threading.Event()

        def work() -> None:
            try:
                while not stopping.is_set():
                    self._round()
            except BaseException as error:  # noqa: BLE001 - raised by the test's thread
                self.errors.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield self
        finally:
            stopping.set()
            worker.join()
        assert not self.errors, self.errors
        assert self.seconds

    def _round(self) -> None:
        started = time.monotonic()
        answer = self._client.post(
            "/v1/pins/imports/json",
            json=rows_for(self._workspace, 10, prefix=f"well-{time.monotonic_ns()}"),
        )
        assert answer.status_code == 202, answer.text
        job = wait_for_job(self._client, answer.json()["id"])
        assert (job["status"], job["created_rows"]) == ("completed", 10)
        assert self._client.get("/v1/pins?limit=1").status_code == 200
        self.seconds.append(time.monotonic() - started)


@pytest.fixture
def normal_client(pinflow: Deployment) -> Iterator[NormalClient]:
    """A client with its own workspace: fuzzed requests revoke accounts of the shared workspace."""
    workspace = new_workspace(pinflow.database_url, "Normal")
    with create_client(pinflow, workspace) as client:
        yield NormalClient(client, workspace)


def _run_until_closed(
    pinflow: Deployment, slow_senders: list[SlowSender], normal_client: NormalClient
) -> None:
    async def run_all() -> None:
        await asyncio.gather(
            *(slow_sender.run(pinflow.ports["gateway"]) for slow_sender in slow_senders)
        )

    with normal_client.running():
        asyncio.run(run_all())
    print(
        f"closed after {max(each.seconds for each in slow_senders):.1f} s; "
        "a round of the normal client took up to "
        f"{max(normal_client.seconds):.1f} s"
    )


def test_connections_with_slow_headers_are_closed(
    pinflow: Deployment, warm: dict[str, int], normal_client: NormalClient
) -> None:
    slow_senders = [
        SlowSender(b"GET /v1/pins HTTP/1.1\r\nHost: x\r\nX-A: ", b"a") for _ in range(SLOW)
    ]
    with memory_bounded(pinflow, warm, 100 * MEGABYTE):
        _run_until_closed(pinflow, slow_senders, normal_client)
    assert (
        max(slow_sender.seconds for slow_sender in slow_senders)
        < GATEWAY_SECONDS["read_header"] + SLACK
    )


@pytest.mark.parametrize("length", [2000, 5_000_000] if LONG else [2000])
def test_requests_with_slow_bodies_are_answered_408(
    pinflow: Deployment,
    warm: dict[str, int],
    normal_client: NormalClient,
    caller: Caller,
    length: int,
) -> None:
    beginning = caller.fill(
        post(b"[", b"Content-Length: %d" % length, has_length=False).raw(caller)
    )
    slow_senders = [SlowSender(beginning, b" ") for _ in range(SLOW)]
    with memory_bounded(pinflow, warm, 150 * MEGABYTE):
        _run_until_closed(pinflow, slow_senders, normal_client)
    assert (
        max(slow_sender.seconds for slow_sender in slow_senders)
        < GATEWAY_SECONDS["read_body"] + SLACK
    )
    assert {slow_sender.answer.split(b" ")[1] for slow_sender in slow_senders} == {b"408"}


@pytest.mark.skipif(not LONG, reason="takes sixteen seconds: part of make hostile")
def test_connections_of_slow_readers_are_closed(
    pinflow: Deployment,
    warm: dict[str, int],
    client: httpx.Client,
    normal_client: NormalClient,
    caller: Caller,
) -> None:
    """After `write`, the gateway closes a connection whose client does not read a large answer.

    If the kernel has buffered the whole answer, it closes the connection after `idle`.
    """
    invalid_row = dict.fromkeys(
        (
            "account_id",
            "asset_id",
            "cover_image_url",
            "link_url",
            "image_url",
            "dominant_color",
            "run_at",
        ),
        "x" * 300,
    )
    job_id = client.post("/v1/pins/imports/json", json=[invalid_row] * 500).json()["id"]
    wait_for_job(client, job_id)
    size = len(client.get(f"/v1/pins/imports/{job_id}").content)
    assert size > MEGABYTE
    request = caller.fill(get(b"/v1/pins/imports/" + job_id.encode()).raw(caller))

    with ExitStack() as stack, _peak_memory(pinflow) as peak, normal_client.running():
        for _ in range(SLOW):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", pinflow.ports["gateway"]))
            reader.sendall(request)
        started = time.monotonic()
        wait_until(
            lambda: _count_connections(pinflow) < 10,
            seconds=GATEWAY_SECONDS["write"] + GATEWAY_SECONDS["idle"] + SLACK,
        )
        seconds = time.monotonic() - started
    growth = (peak["status"] - warm["status"]) // MEGABYTE
    print(
        f"closed {SLOW} connections of readers of {size} bytes after {seconds:.1f} s; "
        f"status grew by up to {growth} MiB"
    )
    assert growth < 250, growth


def _count_connections(pinflow: Deployment) -> int:
    """Counts the clients' connections that the gateway still holds."""
    connections = psutil.Process(pinflow.programs["gateway"].process.pid).net_connections("tcp")
    return sum(
        connection.status == psutil.CONN_ESTABLISHED
        and connection.laddr.port == pinflow.ports["gateway"]
        for connection in connections
    )


def test_many_large_bodies_at_once_stay_within_memory(
    pinflow: Deployment,
    warm: dict[str, int],
    client: httpx.Client,
    workspace: NewWorkspace,
    caller: Caller,
) -> None:
    body = caller.fill(
        b"[" + b",".join([row(b'"description":"' + b"x" * 9_900 + b'"')] * 500) + b"]"
    )
    answers: Counter[str] = Counter()

    async def upload(client: httpx.AsyncClient) -> None:
        try:
            answer = await client.post("/v1/pins/imports/json", content=body)
        except httpx.TransportError:
            answers["cut"] += 1
            return
        assert answer.status_code != 503 or answer.headers["retry-after"], answer.text
        answers["accepted" if answer.status_code == 202 else answer.json()["detail"]["code"]] += 1

    async def flood() -> None:
        headers = {"X-API-Key": workspace.api_key, "Content-Type": "application/json"}
        limits = httpx.Limits(max_connections=UPLOADS)
        async with httpx.AsyncClient(
            base_url=pinflow.base_url, headers=headers, timeout=120, trust_env=False, limits=limits
        ) as http:
            await asyncio.gather(*(upload(http) for _ in range(UPLOADS)))

    with _peak_memory(pinflow) as peak:
        asyncio.run(flood())
    growth = {name: (peak[name] - warm[name]) // MEGABYTE for name in peak}
    print(f"{dict(answers)}; peak growth of each process in MiB: {growth}")
    # request_timeout and cut: a busy machine may fail to receive a gigabyte in time
    assert answers.keys() <= {"accepted", "too_busy", "request_timeout", "cut"}, answers
    assert answers["accepted"], answers
    assert growth["ingest"] < 300, growth
    after = client.post(
        "/v1/pins/imports/json", content=body, headers={"Content-Type": "application/json"}
    )
    assert after.status_code == 202, after.text


@contextmanager
def _peak_memory(pinflow: Deployment) -> Iterator[dict[str, int]]:
    """Yields the peak memory of each process, which a thread updates."""
    peak = read_memory(pinflow)
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.02):
            for name, now in read_memory(pinflow).items():
                peak[name] = max(peak[name], now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stopping.set()
        watcher.join()
