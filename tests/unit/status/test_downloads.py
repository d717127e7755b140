"""Files are written a few at a time, fairly between workspaces, and slow clients are cut off."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from starlette.types import Message, Receive

from services.status.uploads import downloads
from services.status.uploads.downloads import (
    DOWNLOADS_AT_ONCE,
    DOWNLOADS_PER_WORKSPACE,
    CsvDownload,
    DownloadQueue,
    create_download_queue,
)
from shared.contract.errors import ApiError, ErrorCode


async def receive() -> Message:
    return {"type": "http.disconnect"}


class Client:
    """A client that takes a file's chunks when a test lets it."""

    def __init__(self, *, reads: bool = True) -> None:
        self.sent: list[Message] = []
        self.may_read = asyncio.Event()
        self.has_started = asyncio.Event()
        if reads:
            self.may_read.set()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.has_started.set()
        await self.may_read.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def build() -> Iterator[bytes]:
    return iter([b"a,b\r\n", b"1,2\r\n"])


async def download(queue: DownloadQueue, workspace: object, client: Client) -> None:
    response = CsvDownload(queue, workspace, build, "attachment")  # type: ignore[arg-type]
    reading: Receive = receive
    await response({"type": "http"}, reading, client.send)


async def test_a_file_is_sent_in_chunks_with_its_headers() -> None:
    client = Client()
    await download(create_download_queue(), uuid4(), client)
    assert (client.body, client.is_complete) == (b"a,b\r\n1,2\r\n", True)
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-disposition"] == b"attachment"
    assert b"content-length" not in headers


async def test_an_error_before_the_first_chunk_is_an_answer_of_its_own() -> None:
    def refuse() -> Iterator[bytes]:
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, "No.")

    queue, client = create_download_queue(), Client()
    with pytest.raises(ApiError):
        await CsvDownload(queue, uuid4(), refuse, "")({"type": "http"}, receive, client.send)
    assert client.sent == []
    assert queue.has_free_slot


async def test_a_workspace_leaves_slots_to_others_and_waits_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "WAIT_SECONDS", 0.05)
    queue, workspace = create_download_queue(), uuid4()
    slow = [Client(reads=False) for _ in range(DOWNLOADS_PER_WORKSPACE)]
    running = [asyncio.create_task(download(queue, workspace, client)) for client in slow]
    for client in slow:
        await client.has_started.wait()
    with pytest.raises(ApiError) as error:
        await download(queue, workspace, Client())
    assert (error.value.code, error.value.status) == ("too_busy", 503)
    assert error.value.headers == {"Retry-After": "1"}
    other = Client()
    await download(queue, uuid4(), other)
    assert other.is_complete
    for client in slow:
        client.may_read.set()
    await asyncio.gather(*running)
    assert all(client.is_complete for client in slow)
    assert DOWNLOADS_PER_WORKSPACE < DOWNLOADS_AT_ONCE


async def test_a_client_that_reads_too_slowly_loses_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "MAX_DOWNLOAD_SECONDS", 0.05)
    queue, client = create_download_queue(), Client()

    async def send(message: Message) -> None:
        client.sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await CsvDownload(queue, uuid4(), build, "")({"type": "http"}, receive, send)
    assert not client.is_complete
    assert queue.has_free_slot


async def test_a_client_that_disconnects_frees_its_slot() -> None:
    queue, client = create_download_queue(), Client(reads=False)
    running = asyncio.create_task(download(queue, uuid4(), client))
    await client.has_started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert queue.has_free_slot
