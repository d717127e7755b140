"""Requests go where they may, and nowhere else: real sockets, with names that lead where the test
says.
"""

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

from services.webhooks.delivery.connections import CheckedBackend, Resolver
from services.webhooks.delivery.model import ClaimedDelivery
from services.webhooks.delivery.policy import Answer
from services.webhooks.delivery.sender import Sender
from services.webhooks.delivery.ssrf import AddressRules
from tests.support.receivers import OK, Received, Receiver, Reply, receiving
from tests.support.waiting import until


class Names:
    """What names lead to; notes what was asked."""

    def __init__(self, *answers: Mapping[str, list[str]]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        answers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if host not in answers:
            raise socket.gaierror("unknown name")
        return answers[host]


@asynccontextmanager
async def sending(
    names: Names | Resolver,
    rules: AddressRules | None = None,
    *,
    seconds: float = 3,
    ca_file: str | None = None,
) -> AsyncIterator[Sender]:
    sender = Sender(
        CheckedBackend(rules or AddressRules.of(), names),
        seconds=seconds,
        at_once=4,
        ca_file=ca_file,
    )
    yield sender
    await sender.close()


def due(url: str) -> ClaimedDelivery:
    return ClaimedDelivery(
        uuid4(), uuid4(), "evt_1", "pin.published", "{}", 0, url, "s" * 16, uuid4(), failing=False
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


LOCAL = AddressRules.of(allowed="127.0.0.0/8")
FORBIDDEN = Answer(None, "not sent: the name can't be resolved, or leads to no public address")


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
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    receiver: Receiver, addresses: list[str]
) -> None:
    async with sending(Names({"hooks.example": addresses})) as sender:
        assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == FORBIDDEN
    assert receiver.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.1", "0x7f000001"])
async def test_nor_is_such_an_address_itself_by_the_systems_own_resolver(
    receiver: Receiver, host: str
) -> None:
    resolver = Resolver(2)
    async with sending(resolver) as sender:
        assert await sender.send(due(f"http://{host}:{receiver.port}/")) == FORBIDDEN
    resolver.close()
    assert receiver.requests == []


async def test_what_an_operator_allows_is_connected_to(receiver: Receiver) -> None:
    async with sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        assert await sender.send(due(f"http://hooks.example:{receiver.port}/a?b=c")) == Answer(
            204, None
        )
    (received,) = receiver.requests
    assert (received.path, received.headers["host"]) == ("/a?b=c", f"hooks.example:{receiver.port}")


async def test_a_name_is_asked_for_once_and_what_was_checked_is_connected_to(
    receiver: Receiver,
) -> None:
    """A second question could be answered with another address."""
    names = Names({"hooks.example": ["127.0.0.1"]}, {"hooks.example": ["10.0.0.1"]})
    async with sending(names, LOCAL) as sender:
        assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == Answer(204, None)
    assert names.asked == ["hooks.example"]
    assert len(receiver.requests) == 1


async def test_a_name_that_has_moved_to_a_private_address_is_refused_at_the_next_connection(
    receiver: Receiver,
) -> None:
    names = Names({"hooks.example": ["127.0.0.1"]}, {"hooks.example": ["10.0.0.1"]})
    receiver.answer = lambda _: Reply(204, {"Connection": "close"})
    async with sending(names, LOCAL) as sender:
        url = f"http://hooks.example:{receiver.port}/"
        assert [await sender.send(due(url)), await sender.send(due(url))] == [
            Answer(204, None),
            FORBIDDEN,
        ]


async def test_of_several_addresses_the_next_is_tried(receiver: Receiver) -> None:
    async with sending(
        Names({"hooks.example": ["127.0.0.2", "127.0.0.1"]}), LOCAL
    ) as sender:  # nobody listens on the first
        assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == Answer(204, None)


async def test_an_address_that_leads_nowhere_leaves_the_next_its_time(receiver: Receiver) -> None:
    """A listener whose queue is full answers nobody, like a network that drops packets."""
    with socket.socket() as nowhere, socket.socket() as waiting:
        nowhere.bind(("127.0.0.2", receiver.port))
        nowhere.listen(0)
        waiting.connect(nowhere.getsockname())
        async with sending(
            Names({"hooks.example": ["127.0.0.2", "127.0.0.1"]}), LOCAL, seconds=2
        ) as sender:
            assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == Answer(
                204, None
            )


async def test_a_redirect_to_a_private_address_is_not_followed(receiver: Receiver) -> None:
    with receiving() as inner:
        receiver.answer = lambda _: Reply(302, {"Location": inner.url})
        async with sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
            answer = await sender.send(due(f"http://hooks.example:{receiver.port}/"))
        assert (answer.status_code, inner.requests) == (302, [])
        assert "redirect" in (answer.error or "")


async def test_a_port_that_may_not_be_used_is_not_connected_to(receiver: Receiver) -> None:
    rules = AddressRules.of(allow_private=True, ports="80,443")
    async with sending(Names({"hooks.example": ["127.0.0.1"]}), rules) as sender:
        answer = await sender.send(due(f"http://hooks.example:{receiver.port}/"))
    assert answer == Answer(
        None, f"not sent: port {receiver.port} is not among those that webhooks may use"
    )
    assert receiver.requests == []


async def test_no_proxy_is_asked_whatever_the_environment_says(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
            assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == Answer(
                204, None
            )
        assert proxy.requests == []


async def test_a_name_that_there_is_not_looks_like_one_that_leads_inside() -> None:
    """Or whoever makes webhooks could ask which names there are inside.

    The log has the difference.
    """
    with structlog.testing.capture_logs() as logs:
        async with sending(Names({"inner.example": ["10.0.0.1"]}), LOCAL) as sender:
            answers = [
                await sender.send(due(f"http://{name}.example/")) for name in ("nowhere", "inner")
            ]
    assert answers == [FORBIDDEN] * 2
    assert [one["reason"] for one in logs] == [
        "can't be resolved: unknown name",
        "leads to a private or otherwise special address",
    ]


async def test_a_receiver_that_does_not_answer_is_given_up_in_time(receiver: Receiver) -> None:
    release = threading.Event()

    def hang(_: Received) -> Reply:
        release.wait(30)
        return OK

    receiver.answer = hang
    async with sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL, seconds=0.2) as sender:
        assert await sender.send(due(f"http://hooks.example:{receiver.port}/")) == Answer(
            None, "no answer within 0.2 s"
        )
    release.set()


async def test_a_slow_name_server_is_given_up_in_time() -> None:
    async def forever(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    sender = Sender(CheckedBackend(LOCAL, forever), seconds=0.1, at_once=1, ca_file=None)
    assert await sender.send(due("http://hooks.example/")) == Answer(None, "no answer within 0.1 s")
    await sender.close()


async def test_a_name_holds_one_thread_however_often_it_is_tried() -> None:
    """An attempt is over before the system's resolver gives up: each would leave a thread behind,
    until there is none for other names.
    """
    asked, answer = [], threading.Event()

    def slow(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
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
    assert asked == ["slow.example", "quick.example"]
    assert await resolver("slow.example", 80) == [
        "127.0.0.1"
    ]  # what was found is not remembered: names move
    assert len(asked) == 3
    resolver.close()


async def test_what_is_no_http_is_an_attempt_that_failed() -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ready\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server, sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        answer = await sender.send(
            due(f"http://hooks.example:{server.sockets[0].getsockname()[1]}/")
        )
    assert answer.status_code is None
    assert answer.error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of hooks.example, signed by itself; its key is in the same file."""
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


async def test_a_certificate_is_checked_by_the_name_not_by_the_address(
    secure_receiver: Receiver, certificate: Path
) -> None:
    names = Names({"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    async with sending(names, LOCAL, ca_file=str(certificate)) as sender:
        assert await sender.send(due(f"https://hooks.example:{secure_receiver.port}/")) == Answer(
            204, None
        )
        wrong = await sender.send(due(f"https://other.example:{secure_receiver.port}/"))
    assert wrong.status_code is None
    assert "certificate" in (wrong.error or "").lower()
    until(lambda: len(secure_receiver.requests) == 1)


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure_receiver: Receiver) -> None:
    async with sending(Names({"hooks.example": ["127.0.0.1"]}), LOCAL) as sender:
        answer = await sender.send(due(f"https://hooks.example:{secure_receiver.port}/"))
    assert (answer.status_code, secure_receiver.requests) == (None, [])
