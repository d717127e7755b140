"""Warnings about rows that Pinterest would not take, for connected accounts only."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.connected_accounts import PAUSE_SECONDS, ConnectedAccounts
from services.ingest.parsing.reading import RawTable
from services.ingest.reader import ImportReader, ReadingScope
from shared.contract.delivery_advice import find_advice, is_shortened
from shared.contract.errors import DatabaseUnavailable
from shared.contract.events import Notice
from tests.support.factories import ACCOUNT, NOON, submitted_row
from tests.support.imports import NoDirectories

COVER = "https://cdn.example/cover.jpg"
VIDEO = "https://cdn.example/lamps.MP4?width=1"


class Connections(NoDirectories):
    """Knows one connected account, unless it is away."""

    def __init__(self) -> None:
        self.lookups: list[list[UUID]] = []
        self.error: Exception | None = None
        self.hangs = False

    async def find_connected(
        self, _workspace_id: UUID, account_ids: Collection[UUID], /
    ) -> set[UUID]:
        self.lookups.append(list(account_ids))
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return {ACCOUNT} & set(account_ids)


class ConnectionsOf(Connections):
    """Knows the connected account of one workspace."""

    def __init__(self, owner: UUID) -> None:
        super().__init__()
        self.owner = owner

    async def find_connected(
        self, workspace_id: UUID, account_ids: Collection[UUID], /
    ) -> set[UUID]:
        found = await super().find_connected(workspace_id, account_ids)
        return found if workspace_id == self.owner else set()


@pytest.fixture
def connections() -> Connections:
    return Connections()


async def read(
    connections: Connections, *rows: dict[str, Any], in_thread: bool = False
) -> list[Notice]:
    parsed = await ImportReader(connections).read(
        lambda: RawTable(rows),
        ReadingScope(uuid4(), NOON),
        lambda parsed: parsed,
        in_thread=in_thread,
    )
    assert parsed.total == len(rows)
    return parsed.warnings


@pytest.mark.parametrize("in_thread", [False, True])
async def test_each_advice_names_its_rows(connections: Connections, in_thread: bool) -> None:
    warnings = await read(
        connections,
        submitted_row(),
        submitted_row(cover_image_url=COVER, related_terms=["lamp"]),
        submitted_row(link_url="https://bit.ly/lamps"),
        submitted_row(cover_image_asset_id=str(uuid4())),
        in_thread=in_thread,
    )
    assert [(notice.code, notice.row_numbers) for notice in warnings] == [
        ("cover_ignored", [2, 4]),
        ("related_terms_ignored", [2]),
        ("shortened_link", [3]),
    ]
    assert connections.lookups == [[ACCOUNT]]


async def test_other_rows_cost_no_lookup(connections: Connections) -> None:
    title = 'A "related_terms": and "link_url":"https://bit.ly/x" in a title'
    rows = [
        submitted_row(title=title),
        submitted_row(link_url="https://shop.example/bit.ly"),
        submitted_row(link_url=None),
        submitted_row(image_url=VIDEO, cover_image_url=COVER),
        submitted_row(title="", cover_image_url=COVER),  # fails
    ]
    warnings = await read(connections, *rows)
    assert (warnings, connections.lookups) == ([], [])


async def test_rows_of_unconnected_accounts_get_no_warning(connections: Connections) -> None:
    other = str(uuid4())
    rows = [submitted_row(account_id=other, cover_image_url=COVER) for _ in range(3)]
    assert await read(connections, *rows) == []
    (warning,) = await read(connections, *rows, submitted_row(cover_image_url=COVER))
    assert warning.row_numbers == [4]


async def test_invariant_9_an_import_is_read_without_postgres(connections: Connections) -> None:
    connections.error = DatabaseUnavailable("away")
    assert await read(connections, submitted_row(cover_image_url=COVER)) == []


async def test_a_postgres_that_hangs_delays_one_import_a_little(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.connected_accounts.LOOKUP_SECONDS", 0.01)
    now = 0.0
    accounts = ConnectedAccounts(connections, clock=lambda: now)
    workspace_id = uuid4()
    connections.hangs = True
    for _ in range(3):
        assert await accounts.find(workspace_id, [ACCOUNT]) == set()
    assert len(connections.lookups) == 1
    connections.hangs, now = False, PAUSE_SECONDS
    for _ in range(3):
        assert await accounts.find(workspace_id, [ACCOUNT]) == {ACCOUNT}
    assert len(connections.lookups) == 2


async def test_accounts_of_both_kinds_are_cached(connections: Connections) -> None:
    accounts, other = ConnectedAccounts(connections), uuid4()
    workspace_id = uuid4()
    for _ in range(3):
        assert await accounts.find(workspace_id, [ACCOUNT, other]) == {ACCOUNT}
    assert connections.lookups == [[ACCOUNT, other]]


@pytest.mark.parametrize("is_owner_first", [True, False])
async def test_invariant_10_an_account_of_another_workspace_is_not_connected(
    is_owner_first: bool,
) -> None:
    owner, other = uuid4(), uuid4()
    accounts = ConnectedAccounts(ConnectionsOf(owner))
    order = (owner, other) if is_owner_first else (other, owner)
    found = {workspace_id: await accounts.find(workspace_id, [ACCOUNT]) for workspace_id in order}
    assert found == {owner: {ACCOUNT}, other: set()}


@pytest.mark.parametrize(
    "url",
    [
        "https://bit.ly/x",
        "HTTP://WWW.T.CO/x",
        "https://pin.it:443/a",
        "https://tinyurl.com?x=1",
        "https://www.ow.ly./x",
        "https://user@goo.gl/x",
        "https://rb.gy",
    ],
)
async def test_a_shortened_link_is_recognized(connections: Connections, url: str) -> None:
    assert is_shortened(url)
    (warning,) = await read(connections, submitted_row(link_url=url))
    assert warning.code == "shortened_link"


@pytest.mark.parametrize(
    "url", ["https://rabbit.ly/x", "https://shop.example/?u=https://t.co/x", "https://t.co.example"]
)
async def test_another_link_is_not(connections: Connections, url: str) -> None:
    assert not is_shortened(url)
    assert await read(connections, submitted_row(link_url=url)) == []


def test_an_asset_or_a_video_may_have_a_cover() -> None:
    for image_url in (None, VIDEO):
        advice = find_advice(
            image_url=image_url, has_cover=True, related_terms=None, link_url="https://[bad/"
        )
        assert advice == []
