"""The client of Pinterest on a server that answers raw bytes: it sends once, and says what failed.

Each request is answered with the next entry of the test's script.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr

from shared.pinterest.app_client import PinterestAppClient
from shared.pinterest.client import MAX_PAGES, PinterestClient
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused
from shared.pinterest.settings import PinterestSettings
from shared.pinterest.transport import MAX_ANSWER_BYTES

TOKEN = SecretStr("pina_very-secret")
CODE = "very-secret-code"
SECRET = "very-secret-app"
GRANT = {
    "access_token": "pina_granted",
    "expires_in": 60,
    "scope": "boards:read",
    "refresh_token": "pinr_granted",
    "refresh_token_expires_in": 600,
}
CUT = None
"""The connection is closed instead of an answer."""


class Hang:
    """The answer never comes."""


class Partial(bytes):
    """The connection is closed after these bytes."""


HANG = Hang()
Script = Sequence[bytes | Hang | None]


def make_answer(
    document: Any, status: int = 200, headers: Sequence[str] = (), *, is_raw: bool = False
) -> bytes:
    body = document if is_raw else orjson.dumps(document)
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Server:
    def __init__(self, script: Script) -> None:
        self._script = list(script)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((head[0], headers, body))
                answer = self._script.pop(0)
                if isinstance(answer, Hang):
                    await reader.read()  # until the client gives up
                    return
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if isinstance(answer, Partial):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    *script: bytes | Hang | None, timeout_seconds: float = 5, **changes: Any
) -> AsyncIterator[tuple[PinterestAppClient, Server]]:
    server = Server(script)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    client = PinterestAppClient(make_settings(server.url, timeout_seconds, **changes))
    try:
        yield client, server
    finally:
        await client.close()
        listener.close()
        await listener.wait_closed()


def make_settings(url: str, timeout_seconds: float = 5, **changes: Any) -> PinterestSettings:
    values = {
        "pinterest_mode": "simulated",
        "pinterest_simulator_url": url,
        "pinterest_app_id": "1000001",
        "pinterest_app_secret": SecretStr(SECRET),
        "pinterest_token_keys": SecretStr(Fernet.generate_key().decode()),
        "pinterest_timeout_seconds": timeout_seconds,
    }
    return PinterestSettings(**{**values, **changes})


async def get_board(client: PinterestClient) -> Any:
    return await client.call("boards/get", "GET", "/boards/5", token=TOKEN)


async def create_board(client: PinterestClient) -> Any:
    return await client.call(
        "boards/create", "POST", "/boards", token=TOKEN, document={"name": "Läden"}
    )


async def test_a_call_sends_the_token_and_returns_the_answer() -> None:
    async with serving(make_answer({"id": "5", "name": "Lamps"})) as (client, server):
        assert await create_board(client) == {"id": "5", "name": "Lamps"}
    ((line, headers, body),) = server.requests
    assert line == "POST /v5/boards HTTP/1.1"
    assert headers["authorization"] == "bearer pina_very-secret"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert orjson.loads(body) == {"name": "Läden"}


async def test_an_answer_without_content_is_none() -> None:
    answer = b"HTTP/1.1 204 X\r\n\r\n"
    async with serving(answer) as (client, _):
        assert await client.call("boards/delete", "DELETE", "/boards/5", token=TOKEN) is None


async def test_a_path_is_quoted() -> None:
    async with serving(make_answer({"id": "5"})) as (client, server):
        await client.call("boards/get", "GET", "/boards/a?b#c d\r\nX: y", token=TOKEN)
    assert server.requests[0][0] == "GET /v5/boards/a%3Fb%23c%20d%0D%0AX%3A%20y HTTP/1.1"


async def test_a_refusal_has_its_cause_and_pinterests_request_id() -> None:
    refusal = make_answer(
        {"code": 8, "message": "Slow down"},
        429,
        ["x-pinterest-rid: 123", "x-ratelimit-reset: 37", "retry-after: 5"],
    )
    async with serving(refusal) as (client, server):
        with pytest.raises(Refused) as raised:
            await create_board(client)
    refused = raised.value
    assert (refused.status, refused.code, refused.cause) == (429, 8, Cause.RATE_LIMIT)
    assert (refused.message, refused.request_id) == ("Slow down", "123")
    assert refused.retry_after_seconds == 37
    assert len(server.requests) == 1


async def test_a_refusal_need_not_be_json() -> None:
    async with serving(make_answer(b"<html>", 403, is_raw=True)) as (client, _):
        with pytest.raises(Refused) as raised:
            await get_board(client)
    assert (raised.value.code, raised.value.cause) == (None, Cause.PERMISSION)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(CUT, id="cut"),
        pytest.param(Partial(b"HTTP/1.1 200 X\r\nContent-Le"), id="cut in the headers"),
        pytest.param(
            Partial(b"HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\n{"), id="cut in the body"
        ),
        pytest.param(b"SSH-2.0\r\n\r\n", id="not HTTP"),
        pytest.param(make_answer({"code": 500, "message": "x"}, 500), id="500"),
        pytest.param(make_answer({"code": 9, "message": "x"}, 503), id="503"),
        pytest.param(make_answer({"code": 2787, "message": "x"}, 400), id="2787"),
        pytest.param(make_answer({}, 302, ["Location: http://127.0.0.1:1/"]), id="redirect"),
        pytest.param(make_answer(b"<html>", is_raw=True), id="not JSON"),
        pytest.param(make_answer({"code": 1, "message": "x"}), id="an error with 200"),
        pytest.param(make_answer({"name": "x"}), id="no id"),
        pytest.param(b"HTTP/1.1 204 X\r\n\r\n", id="no content"),
        pytest.param(make_answer(b"\x1f\x8b\x08", is_raw=True), id="gzip that nobody asked for"),
        pytest.param(
            make_answer(b" " * (MAX_ANSWER_BYTES + 1), is_raw=True), id="more than the maximum"
        ),
    ],
)
async def test_an_answer_that_says_nothing_is_lost_and_not_asked_for_again(
    answer: bytes | None,
) -> None:
    async with serving(answer, make_answer({"id": "5"})) as (client, server):
        with pytest.raises(AnswerLost):
            await create_board(client)
    assert len(server.requests) == 1


async def test_a_slow_answer_is_lost() -> None:
    async with serving(HANG, timeout_seconds=0.5) as (client, _):
        with pytest.raises(AnswerLost, match=r"no answer within 0\.5 s"):
            await create_board(client)


async def test_a_slow_body_is_lost() -> None:
    """Each step of an answer may be quick. The timeout is that of the whole call."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass

    listener = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    client = PinterestAppClient(make_settings(url, 0.5))
    with pytest.raises(AnswerLost, match="no answer within"):
        await get_board(client)
    await client.close()
    listener.close()


async def test_without_a_connection_nothing_was_sent() -> None:
    listener = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    client = PinterestAppClient(make_settings(f"http://127.0.0.1:{port}"))
    with pytest.raises(NotSent):
        await create_board(client)
    await client.close()


async def test_a_failed_tls_handshake_sends_nothing() -> None:
    async with serving() as (_, server):
        client = PinterestAppClient(make_settings(server.url.replace("http:", "https:"), 0.3))
        with pytest.raises(NotSent):
            await create_board(client)
        await client.close()
    assert server.requests == []


async def test_cookies_are_not_kept() -> None:
    with_cookie = make_answer({"id": "5"}, headers=["Set-Cookie: session=1; Path=/"])
    async with serving(with_cookie, with_cookie) as (client, server):
        await get_board(client)
        await get_board(client)
    assert [("cookie" in headers) for _, headers, _ in server.requests] == [False, False]


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(make_answer({"id": "5"})) as (client, _):
        assert await get_board(client) == {"id": "5"}


async def test_a_list_is_read_to_its_end() -> None:
    pages = [
        make_answer({"items": [{"id": "1"}], "bookmark": "b/1=="}),
        make_answer({"items": [], "bookmark": "b2"}),
        make_answer({"items": [{"id": "2"}], "bookmark": None}),
    ]
    async with serving(*pages) as (client, server):
        items = await client.list_all(
            "boards/list", "/boards", token=TOKEN, params={"privacy": "ALL"}
        )
    assert items == [{"id": "1"}, {"id": "2"}]
    assert [line.split()[1] for line, _, _ in server.requests] == [
        "/v5/boards?privacy=ALL&page_size=250",
        "/v5/boards?privacy=ALL&page_size=250&bookmark=b%2F1%3D%3D",
        "/v5/boards?privacy=ALL&page_size=250&bookmark=b2",
    ]


async def test_a_list_that_repeats_a_bookmark_is_lost() -> None:
    page = make_answer({"items": [{"id": "1"}], "bookmark": "b"})
    async with serving(page, page, page) as (client, server):
        with pytest.raises(AnswerLost, match="no end"):
            await client.list_all("boards/list", "/boards", token=TOKEN)
    assert len(server.requests) == 2


async def test_a_list_has_a_maximum_number_of_pages() -> None:
    pages = [make_answer({"items": [], "bookmark": str(number)}) for number in range(MAX_PAGES + 1)]
    async with serving(*pages) as (client, server):
        with pytest.raises(AnswerLost, match="no end"):
            await client.list_all("boards/list", "/boards", token=TOKEN)
    assert len(server.requests) == MAX_PAGES


async def test_a_list_has_a_maximum_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pinterest.client.LIST_SECONDS", -1)
    pages = [make_answer({"items": [], "bookmark": str(number)}) for number in range(2)]
    async with serving(*pages) as (client, server):
        with pytest.raises(AnswerLost, match="took longer"):
            await client.list_all("boards/list", "/boards", token=TOKEN)
    assert len(server.requests) == 1


async def test_a_failed_page_fails_the_list() -> None:
    page = make_answer({"items": [{"id": "1"}], "bookmark": "b"})
    async with serving(page, CUT) as (client, _):
        with pytest.raises(AnswerLost):
            await client.list_all("boards/list", "/boards", token=TOKEN)


async def test_tokens_are_requested_with_the_apps_id_and_secret() -> None:
    async with serving(make_answer(GRANT)) as (client, server):
        grant = await client.request_tokens(
            {"grant_type": "authorization_code", "code": CODE, "redirect_uri": "http://x/?a=b"}
        )
    assert grant.access_token.get_secret_value() == "pina_granted"
    ((line, headers, body),) = server.requests
    assert line == "POST /v5/oauth/token HTTP/1.1"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["authorization"].startswith("basic ")
    assert body.decode() == (
        f"grant_type=authorization_code&code={CODE}&redirect_uri=http%3A%2F%2Fx%2F%3Fa%3Db"
        "&continuous_refresh=true"
    )


async def test_without_the_file_of_the_apps_secret_no_token_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    async with serving(make_answer(GRANT), pinterest_app_secret_file=file) as (client, server):
        file.unlink()
        with pytest.raises(NotSent, match="secret can't be read"):
            await client.request_tokens({"grant_type": "refresh_token", "refresh_token": "r"})
        file.write_text(SECRET)
        await client.request_tokens({"grant_type": "refresh_token", "refresh_token": "r"})
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "document", [{}, {"code": 2, "message": "no"}, {**GRANT, "access_token": ""}, [], None]
)
async def test_an_answer_without_tokens_is_lost(document: Any) -> None:
    async with serving(make_answer(document)) as (client, _):
        with pytest.raises(AnswerLost):
            await client.request_tokens({"grant_type": "refresh_token", "refresh_token": "r"})


async def test_no_secret_is_logged(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    quoting = make_answer({"code": 1, "message": f"bad {CODE} {TOKEN.get_secret_value()}"}, 400)
    script = [make_answer(GRANT), quoting, CUT, make_answer({"id": "5"}), quoting]
    async with serving(*script) as (client, _):
        with structlog.testing.capture_logs() as events:
            for _ in range(3):
                with suppress(AnswerLost, Refused):
                    await client.request_tokens({"grant_type": "authorization_code", "code": CODE})
            await create_board(client)
            with pytest.raises(Refused):
                await get_board(client)
    printed = capsys.readouterr()
    logged = caplog.text + str(events) + printed.out + printed.err
    assert "pinterest_refused" in logged
    for secret in (CODE, SECRET, "very-secret", "granted", "L\\u00e4den", "Läden"):
        assert secret not in logged


async def test_a_token_that_is_no_header_is_not_shown() -> None:
    async with serving() as (client, _):
        with pytest.raises(AnswerLost) as raised:
            await client.call("boards/get", "GET", "/boards/5", token=SecretStr("secret\r\nx"))
    assert "secret" not in str(raised.value)
