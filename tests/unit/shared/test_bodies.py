"""Reading request bodies: the limits on size, time and memory, and the refusals."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
from fastapi import Request
from starlette.types import Message

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.strict_json import parse_json
from shared.http.bodies import SMALL_BODY_BYTES, BodyReader, require_content_type

LIMIT = 4 * SMALL_BODY_BYTES


def request(*chunks: bytes, **headers: str) -> Request:
    """Builds a request whose body arrives in these chunks.

    With headers that announce a longer body, the rest never arrives.
    """

    async def arrive() -> AsyncIterator[Message]:
        for chunk in chunks:
            yield {"type": "http.request", "body": chunk, "more_body": True}

    arriving = arrive()
    ends = "content-length" not in {name.replace("_", "-") for name in headers}

    async def receive() -> Message:
        message = await anext(arriving, None)
        if message is None and not ends:
            await asyncio.Event().wait()
        return message or {"type": "http.request", "body": b"", "more_body": False}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": named}, receive)


def build_reader(*, seconds: float = 10) -> BodyReader:
    return BodyReader(limit_bytes=LIMIT, timeout_seconds=seconds, total_bytes=2 * LIMIT)


async def read_refusal(reader: BodyReader, body: Request) -> tuple[HTTPStatus, ErrorCode]:
    with pytest.raises(ApiError) as refused:
        async with reader.read(body):
            pass
    return refused.value.status, refused.value.code


async def test_a_body_up_to_the_limit_is_read_completely() -> None:
    async with build_reader().read(request(b"x" * LIMIT)) as body:
        assert len(body) == LIMIT


@pytest.mark.parametrize("headers", [{}, {"content_length": str(LIMIT + 1)}])
async def test_a_body_over_the_limit_is_refused(headers: dict[str, str]) -> None:
    answer = await read_refusal(build_reader(seconds=0.5), request(b"x" * LIMIT, b"x", **headers))
    assert answer == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ErrorCode.PAYLOAD_TOO_LARGE)


async def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    answer = await read_refusal(build_reader(seconds=0.05), request(b"x", content_length="2"))
    assert answer == (HTTPStatus.REQUEST_TIMEOUT, ErrorCode.REQUEST_TIMEOUT)


async def test_large_bodies_wait_for_memory_and_are_refused_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.http.bodies.WAIT_SECONDS", 0.05)
    reader = build_reader()
    large = [b"x" * SMALL_BODY_BYTES] * 4
    async with reader.read(request(*large)):
        assert await read_refusal(reader, request(*large)) == (
            HTTPStatus.SERVICE_UNAVAILABLE,
            ErrorCode.TOO_BUSY,
        )
        async with reader.read(request(b"[]")) as small:
            assert small == b"[]"  # small bodies need no reservation
    async with reader.read(request(*large)):
        pass


async def test_a_slow_body_reserves_memory_only_for_received_bytes() -> None:
    reader = build_reader()
    slow = [
        asyncio.create_task(read_refusal(reader, request(b"x", content_length=str(LIMIT))))
        for _ in range(100)
    ]
    await asyncio.sleep(0.01)
    async with reader.read(
        request(b"x" * SMALL_BODY_BYTES, b"x" * (LIMIT - SMALL_BODY_BYTES))
    ) as body:
        assert len(body) == LIMIT
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"])
def test_content_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ApiError) as refused:
        require_content_type(
            request(content_type="application/json", content_encoding=encoding), "application/json"
        )
    assert refused.value.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    require_content_type(
        request(content_type="application/json", content_encoding="Identity"), "application/json"
    )


@pytest.mark.parametrize("text", [b"9" * 100_000, b"NaN", b"-Infinity", b"[" * 100_000])
def test_json_errors_do_not_mention_python(text: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        parse_json(text)
    assert refused.value.code == ErrorCode.INVALID_JSON
    assert "sys." not in refused.value.message
