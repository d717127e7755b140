"""Files are written a few at a time, fairly between workspaces, and slow clients are cut off."""

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from starlette.types import Message

from services.status.uploads import downloads
from services.status.uploads.downloads import CsvDownload
from services.status.uploads.slots import UPLOADS_AT_ONCE, UPLOADS_PER_WORKSPACE, UploadSlots
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


async def open_file() -> Iterator[bytes]:
    return iter([b"a,b\r\n", b"1,2\r\n"])


async def download(slots: UploadSlots, workspace_id: UUID, client: Client) -> None:
    response = CsvDownload(slots.slot(workspace_id), open_file, "attachment")
    await response({"type": "http"}, receive, client.send)


async def test_a_file_is_sent_in_chunks_with_its_headers() -> None:
    client = Client()
    await download(UploadSlots(), uuid4(), client)
    assert (client.body, client.is_complete) == (b"a,b\r\n1,2\r\n", True)
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-disposition"] == b"attachment"
    assert b"content-length" not in headers


async def test_an_error_before_the_first_chunk_is_an_answer_of_its_own() -> None:
    async def refuse() -> Iterator[bytes]:
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, "No.")

    slots, client = UploadSlots(), Client()
    with pytest.raises(ApiError):
        await CsvDownload(slots.slot(uuid4()), refuse, "")({"type": "http"}, receive, client.send)
    assert client.sent == []
    assert slots.has_free_slot


async def test_a_workspace_leaves_slots_to_others_and_waits_for_its_own() -> None:
    slots, workspace = UploadSlots(wait_seconds=0.05), uuid4()
    slow = [Client(reads=False) for _ in range(UPLOADS_PER_WORKSPACE)]
    running = [asyncio.create_task(download(slots, workspace, client)) for client in slow]
    for client in slow:
        await client.has_started.wait()
    with pytest.raises(ApiError) as error:
        await download(slots, workspace, Client())
    assert (error.value.code, error.value.status) == ("too_busy", 503)
    assert error.value.headers == {"Retry-After": "1"}
    other = Client()
    await download(slots, uuid4(), other)
    assert other.is_complete
    for client in slow:
        client.may_read.set()
    await asyncio.gather(*running)
    assert all(client.is_complete for client in slow)
    assert UPLOADS_PER_WORKSPACE < UPLOADS_AT_ONCE


async def test_a_client_that_reads_too_slowly_loses_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "MAX_DOWNLOAD_SECONDS", 0.05)
    slots, client = UploadSlots(), Client()

    async def send(message: Message) -> None:
        client.sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await CsvDownload(slots.slot(uuid4()), open_file, "")({"type": "http"}, receive, send)
    assert not client.is_complete
    assert slots.has_free_slot


async def test_a_client_that_disconnects_frees_its_slot() -> None:
    slots, client = UploadSlots(), Client(reads=False)
    running = asyncio.create_task(download(slots, uuid4(), client))
    await client.has_started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert slots.has_free_slot
