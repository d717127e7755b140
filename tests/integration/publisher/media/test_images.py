"""Images are fetched from real servers, within limits on addresses, size, time and memory."""

import asyncio
import base64
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from services.publisher.delivery.media.fetching import MediaFetcher
from services.publisher.delivery.media.images import ImageUploads
from services.publisher.delivery.media.rules import MAX_IMAGE_BYTES
from services.publisher.delivery.media_failures import (
    MediaFailure,
    MediaPending,
    MediaRejected,
    MediaUnreachable,
)
from shared.contract.errors import ErrorCode
from tests.integration.publisher.media.conftest import PUBLIC
from tests.support.http_server import send
from tests.support.media_server import (
    JPEG,
    PNG,
    Answer,
    MediaServer,
    answer_status,
    redirect_to,
    send_chunked,
)

MEBIBYTE = 1024 * 1024
MEMORY = 64 * MEBIBYTE


def build_uploads(
    fetcher: MediaFetcher, *, seconds: float = 5, memory: int = MEMORY
) -> ImageUploads:
    return ImageUploads(fetcher, timeout_seconds=seconds, memory_bytes=memory)


async def fetch(fetcher: MediaFetcher, url: str, **options: Any) -> dict[str, object]:
    async with build_uploads(fetcher, **options).open(url) as source:
        return source


async def fail(fetcher: MediaFetcher, url: str, **options: Any) -> MediaFailure:
    with pytest.raises(MediaFailure) as raised:
        await fetch(fetcher, url, **options)
    return raised.value


@pytest.mark.parametrize(("content", "content_type"), [(PNG, "image/png"), (JPEG, "image/jpeg")])
@pytest.mark.parametrize("extra", [0, 1, 2])
async def test_an_image_is_sent_as_base64_with_the_type_of_its_bytes(
    server: MediaServer, fetcher: MediaFetcher, content: bytes, content_type: str, extra: int
) -> None:
    image = content + b"x" * extra
    source = await fetch(fetcher, server.serve("/image", image))
    assert source == {
        "source_type": "image_base64",
        "content_type": content_type,
        "data": base64.b64encode(image).decode(),
    }


async def test_an_image_that_arrives_in_pieces_without_a_length_is_the_same(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    pieces = [PNG[:3], PNG[3:10], PNG[10:11], PNG[11:]]
    source = await fetch(fetcher, server.answer("/image", send_chunked(*pieces)))
    assert base64.b64decode(str(source["data"])) == PNG


async def test_three_redirects_are_followed_and_no_more(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    server.serve("/3", PNG)
    for number in range(3):
        server.answer(f"/{number}", redirect_to(f"/{number + 1}"))
    server.answer("/first", redirect_to(server.url("/0")))

    assert (await fetch(fetcher, server.url("/0")))["content_type"] == "image/png"
    failure = await fail(fetcher, server.url("/first"))
    assert isinstance(failure, MediaRejected)
    assert "redirects more than 3 times" in failure.message
    assert server.requests[-1] == "/2"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/a.png",
        "http://2130706433/a.png",
        "http://[::1]:8080/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a.png",
        "https://8.8.8.8:25/a.png",
    ],
)
async def test_a_forbidden_address_is_rejected_without_a_connection(
    strict_fetcher: MediaFetcher, url: str
) -> None:
    failure = await fail(strict_fetcher, url)
    assert isinstance(failure, MediaRejected)
    assert failure.code is ErrorCode.MEDIA_UNREACHABLE
    assert "PINFLOW_MEDIA_" in failure.message


async def resolve_inner(host: str, _port: int) -> list[str]:
    if host != "inner.example":
        raise OSError("unknown name")
    return ["127.0.0.1"]


async def test_a_name_of_a_private_address_is_not_connected_to(server: MediaServer) -> None:
    """Checks that it fails as an unknown name does: nobody learns which internal hosts exist."""
    fetcher = MediaFetcher(PUBLIC, resolve_inner, max_connections=10)
    private = await fail(fetcher, server.url("/a.png", host="inner.example"))
    unknown = await fail(fetcher, "http://nobody.invalid/a.png")
    await fetcher.close()
    assert server.requests == []
    assert type(private) is type(unknown) is MediaUnreachable
    assert private.message == unknown.message


async def test_a_redirect_to_a_forbidden_address_is_not_followed(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    for path, target in (("/a", "http://10.0.0.1/a.png"), ("/b", "file:///etc/passwd")):
        failure = await fail(fetcher, server.answer(path, redirect_to(target)))
        assert isinstance(failure, MediaRejected), target
    assert server.requests == ["/a", "/b"]


@pytest.mark.parametrize("status", [404, 410, 403, 401, 204])
async def test_a_definite_answer_rejects_the_image(
    server: MediaServer, fetcher: MediaFetcher, status: int
) -> None:
    failure = await fail(fetcher, server.answer("/a.png", answer_status(status)))
    assert isinstance(failure, MediaRejected)
    assert failure.code is ErrorCode.MEDIA_UNREACHABLE
    assert f"answered {status}" in failure.message


@pytest.mark.parametrize("status", [429, 408, 500, 503])
async def test_a_passing_answer_is_tried_again(
    server: MediaServer, fetcher: MediaFetcher, status: int
) -> None:
    failure = await fail(fetcher, server.answer("/a.png", answer_status(status)))
    assert isinstance(failure, MediaUnreachable)


async def test_a_server_that_is_down_or_cuts_the_image_is_tried_again(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(PNG[:100])
        handler.close_connection = True

    assert isinstance(await fail(fetcher, server.answer("/a.png", cut)), MediaUnreachable)
    server.close()
    down = server.url("/a.png")
    assert isinstance(await fail(fetcher, down), MediaUnreachable)


async def test_a_slow_server_is_given_up_in_time(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    release = threading.Event()

    def stall(_: BaseHTTPRequestHandler) -> None:
        release.wait(30)

    url = server.answer("/a.png", stall)
    try:
        failure = await fail(fetcher, url, seconds=0.2)
    finally:
        release.set()
    assert isinstance(failure, MediaUnreachable)
    assert "0.2 s" in failure.message


@pytest.mark.parametrize("content", [b"", b"\x89PN", b"<html>a page</html>", b"GIF89a" + b"x" * 99])
async def test_a_file_that_is_neither_png_nor_jpeg_is_rejected(
    server: MediaServer, fetcher: MediaFetcher, content: bytes
) -> None:
    failure = await fail(fetcher, server.serve("/a.png", content))
    assert isinstance(failure, MediaRejected)
    assert failure.code is ErrorCode.MEDIA_REJECTED


async def test_a_file_that_is_too_large_is_cut_off(
    server: MediaServer, fetcher: MediaFetcher
) -> None:
    """With a length: at once. Without: as soon as more has arrived."""
    sent = threading.Event()

    def send_endlessly(handler: BaseHTTPRequestHandler) -> None:
        chunk = b"x" * MEBIBYTE
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(f"{len(PNG):x}\r\n".encode() + PNG + b"\r\n")
        try:
            while True:
                handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        except OSError:
            sent.set()
            raise

    def promise(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(MAX_IMAGE_BYTES + 1))
        handler.end_headers()
        handler.close_connection = True

    for path, answer in (("/endless", send_endlessly), ("/large", promise)):
        failure = await fail(fetcher, server.answer(path, answer))
        assert isinstance(failure, MediaRejected)
        assert failure.code is ErrorCode.MEDIA_REJECTED
        assert "larger than 20 MiB" in failure.message
    assert await asyncio.to_thread(sent.wait, 10), "the connection stayed open"


LARGE_PNG = PNG + b"x" * (MAX_IMAGE_BYTES - len(PNG))


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: send(handler, 200, LARGE_PNG),
        # The chunks count, and not the length beside them
        send_chunked(LARGE_PNG, **{"Content-Length": "1000"}),
    ],
)
async def test_the_images_of_concurrent_pins_stay_within_the_memory_bound(
    server: MediaServer, fetcher: MediaFetcher, answer: Answer
) -> None:
    """Each is held until its block ends, as during the request. The third waits, then gives up."""
    url = server.answer("/large.png", answer)
    uploads = build_uploads(fetcher, memory=112 * MEBIBYTE, seconds=4)
    tracemalloc.start()
    try:
        async with uploads.open(url), uploads.open(url):
            with pytest.raises(MediaPending):
                await uploads.open(url).__aenter__()
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 112 * MEBIBYTE + 8 * MEBIBYTE  # the sockets' buffers come on top
    async with uploads.open(url):  # what ended has returned its memory
        pass
