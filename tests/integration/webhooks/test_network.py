"""Webhook requests reach only allowed addresses. Sockets are real. A fake resolves most hosts."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from services.webhooks.delivery.model import ClaimedDelivery, ReceiverResponse
from services.webhooks.delivery.sender import WebhookSender
from shared.http.address_rules import AddressRules
from shared.http.checked_connections import CheckedBackend, ForbiddenAddress, Resolver
from tests.support.receivers import OK, ReceivedRequest, Receiver, Reply, receiving
from tests.support.waiting import wait_until

VARIABLES = "PINFLOW_WEBHOOK"


class FakeResolver:
    """Resolves hosts as the test says, and records the lookups."""

    def __init__(self, *answers: Mapping[str, list[str]]) -> None:
        self._answers = list(answers)
        self.lookups: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.lookups.append(host)
        answers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if host not in answers:
            raise socket.gaierror("unknown name")
        return answers[host]


@asynccontextmanager
async def sending(
    resolver: FakeResolver | Resolver,
    rules: AddressRules | None = None,
    *,
    timeout_seconds: float = 3,
    ca_file: str | None = None,
) -> AsyncIterator[WebhookSender]:
    sender = WebhookSender(
        CheckedBackend(rules or AddressRules.from_settings(variables=VARIABLES), resolver),
        timeout_seconds=timeout_seconds,
        max_connections=4,
        ca_file=ca_file,
    )
    yield sender
    await sender.close()


def delivery_to(url: str) -> ClaimedDelivery:
    return ClaimedDelivery(
        uuid4(),
        uuid4(),
        "evt_1",
        "pin.published",
        "{}",
        0,
        url,
        "s" * 16,
        uuid4(),
        is_failing=False,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


LOCAL = AddressRules.from_settings(variables=VARIABLES, allowed="127.0.0.0/8")
ACCEPTED = ReceiverResponse(204, None)
FORBIDDEN = ReceiverResponse(
    None,
    "not sent: the host can't be resolved, or its address is not public. Check the host's name, or "
    "ask the operator to set PINFLOW_WEBHOOK_ALLOWED_NETWORKS",
)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%lo"],
        ["8.8.8.8", "127.0.0.1"],
    ],
)
async def test_a_host_with_a_private_address_is_not_connected_to(
    receiver: Receiver, addresses: list[str]
) -> None:
    async with sending(FakeResolver({"hooks.example": addresses})) as sender:
        assert await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/")) == FORBIDDEN
    assert receiver.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.1", "0x7f000001"])
async def test_a_private_address_is_not_connected_to_with_the_system_resolver(
    receiver: Receiver, host: str
) -> None:
    resolver = Resolver(2)
    async with sending(resolver) as sender:
        assert await sender.send(delivery_to(f"http://{host}:{receiver.port}/")) == FORBIDDEN
    resolver.close()
    assert receiver.requests == []


async def test_an_address_that_the_operator_allows_is_connected_to(receiver: Receiver) -> None:
    async with sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        assert (
            await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/a?b=c"))
            == ACCEPTED
        )
    (received,) = receiver.requests
    assert (received.path, received.headers["host"]) == ("/a?b=c", f"hooks.example:{receiver.port}")


async def test_a_host_is_resolved_once_and_the_checked_address_is_connected_to(
    receiver: Receiver,
) -> None:
    """A second lookup could return another address."""
    hosts = FakeResolver({"hooks.example": ["127.0.0.1"]}, {"hooks.example": ["10.0.0.1"]})
    async with sending(hosts, LOCAL) as sender:
        assert await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/")) == ACCEPTED
    assert hosts.lookups == ["hooks.example"]
    assert len(receiver.requests) == 1


async def test_a_host_that_moved_to_a_private_address_is_forbidden_at_the_next_connection(
    receiver: Receiver,
) -> None:
    hosts = FakeResolver({"hooks.example": ["127.0.0.1"]}, {"hooks.example": ["10.0.0.1"]})
    receiver.answer = lambda _: Reply(204, {"Connection": "close"})
    async with sending(hosts, LOCAL) as sender:
        url = f"http://hooks.example:{receiver.port}/"
        assert [await sender.send(delivery_to(url)), await sender.send(delivery_to(url))] == [
            ACCEPTED,
            FORBIDDEN,
        ]


async def test_the_next_address_is_tried_if_the_first_refuses(receiver: Receiver) -> None:
    async with sending(
        FakeResolver({"hooks.example": ["127.0.0.2", "127.0.0.1"]}), LOCAL
    ) as sender:  # no listener on the first
        assert await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/")) == ACCEPTED


async def test_an_address_that_never_answers_leaves_time_for_the_next(receiver: Receiver) -> None:
    """A listener with a full queue never answers, like a network that drops packets."""
    with socket.socket() as full_listener, socket.socket() as client:
        full_listener.bind(("127.0.0.2", receiver.port))
        full_listener.listen(0)
        client.connect(full_listener.getsockname())
        async with sending(
            FakeResolver({"hooks.example": ["127.0.0.2", "127.0.0.1"]}), LOCAL, timeout_seconds=4
        ) as sender:
            assert (
                await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/")) == ACCEPTED
            )


async def test_a_redirect_to_a_private_address_is_not_followed(receiver: Receiver) -> None:
    with receiving() as inner:
        receiver.answer = lambda _: Reply(302, {"Location": inner.url})
        async with sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
            answer = await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/"))
        assert (answer.status_code, inner.requests) == (302, [])
        assert "redirect" in (answer.error or "")


async def test_a_forbidden_port_is_not_connected_to(receiver: Receiver) -> None:
    rules = AddressRules.from_settings(variables=VARIABLES, allow_private=True, ports="80,443")
    async with sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), rules) as sender:
        answer = await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/"))
    reason = rules.describe_forbidden_port(receiver.port)
    assert answer == ReceiverResponse(None, f"not sent: {reason}")
    assert receiver.requests == []


async def test_proxy_variables_of_the_environment_are_ignored(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
            assert (
                await sender.send(delivery_to(f"http://hooks.example:{receiver.port}/")) == ACCEPTED
            )
        assert proxy.requests == []


async def test_an_unknown_host_and_an_internal_host_give_the_same_error() -> None:
    """Otherwise clients could find out which internal hosts exist. Only the log has the reason."""
    with structlog.testing.capture_logs() as logs:
        async with sending(FakeResolver({"inner.example": ["10.0.0.1"]}), LOCAL) as sender:
            answers = [
                await sender.send(delivery_to(f"http://{name}.example/"))
                for name in ("nowhere", "inner")
            ]
    assert answers == [FORBIDDEN] * 2
    assert [line["reason"] for line in logs] == [
        "can't be resolved: unknown name",
        "resolves to a private or otherwise special address",
    ]


async def test_a_forbidden_host_is_logged_once_a_minute_or_when_the_reason_changes() -> None:
    resolver = FakeResolver(
        *[{"inner.example": ["10.0.0.1"]}] * 3, {}, {"inner.example": ["10.0.0.1"]}
    )
    now = 0.0
    backend = CheckedBackend(LOCAL, resolver, clock=lambda: now)
    with structlog.testing.capture_logs() as logs:
        for seconds, lines in ((0, 1), (59, 1), (60, 2), (61, 3), (62, 4), (63, 4)):
            now = float(seconds)
            with pytest.raises(ForbiddenAddress):
                await backend.connect_tcp("inner.example", 443)
            assert len(logs) == lines


async def test_a_receiver_that_does_not_answer_times_out(receiver: Receiver) -> None:
    release = threading.Event()

    def hang(_: ReceivedRequest) -> Reply:
        release.wait(30)
        return OK

    receiver.answer = hang
    async with sending(
        FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL, timeout_seconds=0.2
    ) as sender:
        assert await sender.send(
            delivery_to(f"http://hooks.example:{receiver.port}/")
        ) == ReceiverResponse(None, "no response within 0.2 s")
    release.set()


async def test_a_slow_name_server_times_out() -> None:
    async def forever(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    sender = WebhookSender(
        CheckedBackend(LOCAL, forever), timeout_seconds=0.1, max_connections=1, ca_file=None
    )
    assert await sender.send(delivery_to("http://hooks.example/")) == ReceiverResponse(
        None, "no response within 0.1 s"
    )
    await sender.close()


async def test_lookups_of_one_host_hold_one_thread() -> None:
    """An attempt times out before the system's resolver does.

    If each attempt blocked a thread, none would be left for other hosts.
    """
    lookups, answer = [], threading.Event()

    def slow(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        lookups.append(host)
        if host == "slow.example":
            answer.wait(30)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    resolver = Resolver(2, slow)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resolver("slow.example", 80)
    assert await resolver("quick.example", 80) == ["127.0.0.1"]
    waiting = [asyncio.create_task(resolver("slow.example", 80)) for _ in range(2)]
    answer.set()
    assert await asyncio.gather(*waiting) == [["127.0.0.1"]] * 2
    assert lookups == ["slow.example", "quick.example"]
    assert await resolver("slow.example", 80) == [
        "127.0.0.1"
    ]  # results are not cached: addresses change
    assert len(lookups) == 3
    resolver.close()


async def test_a_response_that_is_not_http_is_a_failed_attempt() -> None:
    async def greet_as_smtp(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ready\r\n")
        writer.close()

    server = await asyncio.start_server(greet_as_smtp, "127.0.0.1", 0)
    async with server, sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        answer = await sender.send(
            delivery_to(f"http://hooks.example:{server.sockets[0].getsockname()[1]}/")
        )
    assert answer.status_code is None
    assert answer.error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of hooks.example. Its key is beside it, in hooks.pem.key."""
    file = tmp_path_factory.mktemp("tls") / "hooks.pem"
    name = ("-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example")
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        *name,
        "-keyout",
        f"{file}.key",
        "-out",
        str(file),
    )
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return file


@pytest.fixture
def secure_receiver(receiver: Receiver, certificate: Path) -> Receiver:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    server: ThreadingHTTPServer = receiver._server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return receiver


async def test_a_certificate_is_checked_against_the_host_not_the_address(
    secure_receiver: Receiver, certificate: Path
) -> None:
    hosts = FakeResolver({"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    async with sending(hosts, LOCAL, ca_file=str(certificate)) as sender:
        assert (
            await sender.send(delivery_to(f"https://hooks.example:{secure_receiver.port}/"))
            == ACCEPTED
        )
        wrong = await sender.send(delivery_to(f"https://other.example:{secure_receiver.port}/"))
    assert wrong.status_code is None
    assert "certificate" in (wrong.error or "").lower()
    wait_until(lambda: len(secure_receiver.requests) == 1)


async def test_a_self_signed_certificate_is_rejected(secure_receiver: Receiver) -> None:
    async with sending(FakeResolver({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        answer = await sender.send(delivery_to(f"https://hooks.example:{secure_receiver.port}/"))
    assert (answer.status_code, secure_receiver.requests) == (None, [])
