"""Many clients that are slow, or large, at once: they are cut, memory stays bounded, and whoever
means well is served meanwhile.
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
from tests.acceptance.hostile.conftest import GATEWAY_SECONDS, LONG, memory_bounded, memory_of
from tests.acceptance.hostile.requests import get, post, row
from tests.acceptance.hostile.wire import Caller
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, wait_for_job
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SLOW = 250
UPLOADS = 200
SLACK = 15.0
"""Seconds, on a machine with other things to do."""
MEGABYTE = 1024 * 1024


class Dripping:
    """A client that sends its request's beginning, then a byte now and then, and never reads."""

    def __init__(self, beginning: bytes, drip: bytes = b"") -> None:
        self._beginning = beginning
        self._drip = drip
        self.seconds = 0.0
        """Until it was cut."""
        self.answer = b""

    async def run(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        started = time.monotonic()
        dripping = asyncio.create_task(self._send(writer))
        with suppress(OSError):
            # An answer, or the end of the connection
            self.answer = await reader.read(65536)
        self.seconds = time.monotonic() - started
        dripping.cancel()
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(self._beginning)
            while self._drip:
                await asyncio.sleep(0.5)
                writer.write(self._drip)
                await writer.drain()


class WellMeaning:
    """Imports and queries all the time; `seconds` are how long each round took."""

    def __init__(self, client: httpx.Client, workspace: NewWorkspace) -> None:
        self._client = client
        self._workspace = workspace
        self.seconds: list[float] = []
        self.trouble: list[BaseException] = []

    @contextmanager
    def at_work(self) -> Iterator["WellMeaning"]:
        enough = threading.Event()

        def work() -> None:
            try:
                while not enough.is_set():
                    self._round()
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                self.trouble.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield self
        finally:
            enough.set()
            worker.join()
        assert not self.trouble, self.trouble
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
def well_meaning(client: httpx.Client, workspace: NewWorkspace) -> WellMeaning:
    return WellMeaning(client, workspace)


def _cut(pinflow: Deployment, drippers: list[Dripping], well_meaning: WellMeaning) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(dripper.run(pinflow.ports["gateway"]) for dripper in drippers))

    with well_meaning.at_work():
        asyncio.run(all_of_them())
    print(
        f"cut after {max(one.seconds for one in drippers):.1f} s; a round of the others took up to "
        f"{max(well_meaning.seconds):.1f} s"
    )


def test_slow_headers_are_cut(
    pinflow: Deployment, warm: dict[str, int], well_meaning: WellMeaning
) -> None:
    drippers = [Dripping(b"GET /v1/pins HTTP/1.1\r\nHost: x\r\nX-A: ", b"a") for _ in range(SLOW)]
    with memory_bounded(pinflow, warm, 100 * MEGABYTE):
        _cut(pinflow, drippers, well_meaning)
    assert max(one.seconds for one in drippers) < GATEWAY_SECONDS["read_header"] + SLACK


@pytest.mark.parametrize("length", [2000, 5_000_000] if LONG else [2000])
def test_slow_bodies_are_cut(
    pinflow: Deployment,
    warm: dict[str, int],
    well_meaning: WellMeaning,
    caller: Caller,
    length: int,
) -> None:
    beginning = caller.fill(post(b"[", b"Content-Length: %d" % length, length=False).raw(caller))
    drippers = [Dripping(beginning, b" ") for _ in range(SLOW)]
    with memory_bounded(pinflow, warm, 150 * MEGABYTE):
        _cut(pinflow, drippers, well_meaning)
    assert max(one.seconds for one in drippers) < GATEWAY_SECONDS["read_body"] + SLACK
    assert {one.answer.split(b" ")[1] for one in drippers} == {b"408"}


@pytest.mark.skipif(not LONG, reason="twelve seconds: part of make hostile")
def test_slow_readers_are_cut(
    pinflow: Deployment,
    warm: dict[str, int],
    client: httpx.Client,
    well_meaning: WellMeaning,
    caller: Caller,
) -> None:
    """Who asks for a large job and does not read it is let go after the gateway's `write`, or
    `idle` when the kernel has taken it all.
    """
    wrong = dict.fromkeys(
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
    job_id = client.post("/v1/pins/imports/json", json=[wrong] * 500).json()["id"]
    wait_for_job(client, job_id)
    size = len(client.get(f"/v1/pins/imports/{job_id}").content)
    assert size > MEGABYTE
    request = caller.fill(get(b"/v1/pins/imports/" + job_id.encode()).raw(caller))

    with ExitStack() as stack, _highest(pinflow) as peak, well_meaning.at_work():
        for _ in range(SLOW):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", pinflow.ports["gateway"]))
            reader.sendall(request)
        started = time.monotonic()
        wait_until(
            lambda: _connections(pinflow) < 10,
            seconds=GATEWAY_SECONDS["write"] + GATEWAY_SECONDS["idle"] + SLACK,
        )
        seconds = time.monotonic() - started
    grown = (peak["status"] - warm["status"]) // MEGABYTE
    print(
        f"{SLOW} readers of {size} bytes cut after {seconds:.1f} s; status grew by up to {grown} "
        "MiB"
    )
    assert grown < 250, grown


def _connections(pinflow: Deployment) -> int:
    """Of clients that the gateway still holds."""
    connections = psutil.Process(pinflow.programs["gateway"].process.pid).net_connections("tcp")
    return sum(
        one.status == psutil.CONN_ESTABLISHED and one.laddr.port == pinflow.ports["gateway"]
        for one in connections
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
        ) as many:
            await asyncio.gather(*(upload(many) for _ in range(UPLOADS)))

    with _highest(pinflow) as peak:
        asyncio.run(flood())
    grown = {name: (peak[name] - warm[name]) // MEGABYTE for name in peak}
    print(f"{dict(answers)}; peaks over the warm processes in MiB: {grown}")
    # The last two where the machine is too busy to take a gigabyte within a body's time
    assert answers.keys() <= {"accepted", "too_busy", "request_timeout", "cut"}, answers
    assert answers["accepted"], answers
    assert grown["ingest"] < 300, grown
    assert (
        client.post(
            "/v1/pins/imports/json", json=rows_for(workspace, 1, prefix="after")
        ).status_code
        == 202
    )


@contextmanager
def _highest(pinflow: Deployment) -> Iterator[dict[str, int]]:
    """The most memory that each process is seen to hold."""
    peak = memory_of(pinflow)
    enough = threading.Event()

    def watch() -> None:
        while not enough.wait(0.02):
            for name, now in memory_of(pinflow).items():
                peak[name] = max(peak[name], now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        enough.set()
        watcher.join()
