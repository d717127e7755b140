"""Reads the rows of imports as ingest does, without a server."""

from collections.abc import Collection, Sequence
from uuid import UUID

from services.ingest.parsing.directory import Directory
from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.reading import RawTable, Reading
from services.ingest.parsing.rows import ParsedRows, RawRow
from services.ingest.reader import ImportReader
from shared.access.model import Account, Board
from tests.support.factories import NOON


def validate(
    rows: Sequence[RawRow],
    policy: ReadingPolicy | None = None,
    *,
    strict: bool = False,
    permitted: Collection[UUID] | None = None,
    directory: Directory | None = None,
) -> ParsedRows:
    """Validates the rows of an import that is accepted at NOON."""
    used = policy or ReadingPolicy(NOON, strict=strict, permitted_accounts=permitted)
    return Reading(RawTable(rows), used).complete(directory)


class NoDirectories:
    """Knows no account and no board."""

    async def find_by_names(
        self, _workspace_id: UUID, _accounts: Collection[str], _boards: Collection[str], /
    ) -> tuple[list[Account], list[Board]]:
        return [], []

    async def find_connected(
        self, _workspace_id: UUID, _account_ids: Collection[UUID], /
    ) -> set[UUID]:
        return set()


def new_reader() -> ImportReader:
    return ImportReader(NoDirectories())
