"""Reads imports: in threads if they are large, with a lookup of names only if a row needs it."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

from services.ingest.connected_accounts import ConnectedAccounts, Connections
from services.ingest.parsing.delivery_warnings import (
    RowsByAccount,
    build_delivery_warnings,
    collect_advice,
)
from services.ingest.parsing.directory import Ambiguous, Directory, Names
from services.ingest.parsing.policy import ImportParameters, PastRunAt, ReadingPolicy
from services.ingest.parsing.reading import RawTable, Reading
from services.ingest.parsing.rows import ParsedRows
from shared.access.model import Account, Board
from shared.contract.errors import ApiError, DatabaseUnavailable, ErrorCode
from shared.contract.pins import make_printable
from shared.contract.time_zones import load_zone

T = TypeVar("T")

MAX_PARSER_THREADS = 2
"""Imports that are parsed in threads at once. Each delays every iteration of the event loop by up
to 5 ms, the interpreter's switch interval.
"""
LOOKUP_SECONDS = 2.0
"""Maximum seconds for the lookup of an import's names. It holds one of few slots for imports, and a
Postgres that hangs must not hold up the imports that need no lookup.
"""
AllowList: TypeAlias = frozenset[UUID] | None
"""The accounts that an API key may publish to; None means all."""


class Directories(Connections, Protocol):
    """Reads accounts, boards and connections. shared.access.repository.AccessRepository does it."""

    async def find_by_names(
        self, workspace_id: UUID, accounts: Collection[str], boards: Collection[str], /
    ) -> tuple[list[Account], list[Board]]:
        """Finds accounts by ids or names, and their boards. Raises DatabaseUnavailable."""


class ReadingScope(NamedTuple):
    """The workspace, time and parameters of the import that is read."""

    workspace_id: UUID
    accepted_at: datetime
    parameters: ImportParameters = ImportParameters()
    account_ids: AllowList = None


class _OpenReading(NamedTuple):
    """A reading that needs the accounts and boards with these ids or names."""

    reading: Reading
    names: Names


class _AdvisedRows(NamedTuple):
    """The rows of an import of which Pinterest would not take some as they are."""

    rows: ParsedRows
    advice: RowsByAccount


class ImportReader:
    """Reads the rows of imports. Raises ApiError for a document that is refused.

    Raises DatabaseUnavailable if a name must be looked up and Postgres is down. An import whose
    rows have ids is read without Postgres: then at most warnings about the delivery are missing.
    """

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._connected = ConnectedAccounts(directories)
        self._threads = asyncio.Semaphore(MAX_PARSER_THREADS)

    async def read(
        self,
        parse: Callable[[], RawTable],
        scope: ReadingScope,
        build: Callable[[ParsedRows], T],
        *,
        in_thread: bool,
    ) -> T:
        """Parses and validates an import, and builds a result from its rows.

        `parse` and `build` run in a thread if `in_thread` is set.
        """
        policy = await self._build_policy(scope)

        def start() -> T | _OpenReading | _AdvisedRows:
            reading = Reading(parse(), policy)
            names = reading.collect_names()
            return finish(reading.complete()) if names is None else _OpenReading(reading, names)

        def finish(rows: ParsedRows) -> T | _AdvisedRows:
            advice = collect_advice(rows.valid)
            return _AdvisedRows(rows, advice) if advice else build(rows)

        result = await self._run(start, in_thread=in_thread)
        if isinstance(result, _OpenReading):
            reading = result.reading
            directory = await self._look_up(result, scope)
            result = await self._run(
                lambda: finish(reading.complete(directory)), in_thread=in_thread
            )
        if not isinstance(result, _AdvisedRows):
            return result
        rows = await self._warn_of_delivery(result, scope)
        return await self._run(lambda: build(rows), in_thread=in_thread)

    async def _warn_of_delivery(self, advised: _AdvisedRows, scope: ReadingScope) -> ParsedRows:
        """Adds the warnings about rows of accounts that are connected to Pinterest."""
        rows, advice = advised
        connected = await self._connected.find(scope.workspace_id, list(advice))
        warnings = [*rows.warnings, *build_delivery_warnings(advice, connected)]
        return replace(rows, warnings=warnings)

    async def _run(self, function: Callable[[], T], *, in_thread: bool) -> T:
        if not in_thread:
            return function()
        async with self._threads:
            return await asyncio.to_thread(function)

    async def _look_up(self, opened: _OpenReading, scope: ReadingScope) -> Directory | None:
        """Looks up the names of open rows. Returns None if only failed rows would need it and
        Postgres is down.
        """
        try:
            return await self._find(opened.names, scope)
        except DatabaseUnavailable:
            if opened.reading.needs_directory:
                raise
            return None

    async def _find(self, names: Names, scope: ReadingScope) -> Directory:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                accounts, boards = await self._directories.find_by_names(
                    scope.workspace_id, names.accounts, names.boards
                )
        except TimeoutError:
            raise DatabaseUnavailable("Postgres did not look up names in time.") from None
        permitted = scope.account_ids
        return Directory(
            (account for account in accounts if permitted is None or account.id in permitted),
            boards,
        )

    async def _build_policy(self, scope: ReadingScope) -> ReadingPolicy:
        parameters = scope.parameters
        return ReadingPolicy(
            accepted_at=scope.accepted_at,
            strict=parameters.strict,
            zone=None if parameters.timezone is None else load_zone(parameters.timezone),
            fails_past_run_at=parameters.past_run_at is PastRunAt.FAIL,
            account_id=await self._find_default_account(scope),
            permitted_accounts=scope.account_ids,
        )

    async def _find_default_account(self, scope: ReadingScope) -> UUID | None:
        text = (scope.parameters.account or "").strip()
        if not text:
            return None
        try:
            return UUID(text)
        except ValueError:
            pass
        directory = await self._find(Names((text,), ()), scope)
        match directory.find_account(text):
            case UUID() as account_id:
                return account_id
            case Ambiguous(ids):
                message = f"account: {len(ids)} accounts have this name. Use the id of one of them."
                raise ApiError(ErrorCode.INVALID_PARAMETER, message, accounts=list(ids))
            case None:
                message = (
                    f"account: no account has the id or name {make_printable(text)}. See the "
                    "accounts: GET /v1/pinterest/accounts, or pinflow template."
                )
                raise ApiError(ErrorCode.INVALID_PARAMETER, message)
