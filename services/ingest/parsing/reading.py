"""Reads the rows of an import by one policy, in two steps between which accounts are looked up."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from services.ingest.parsing.directory import Directory, Names
from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.rows import ParsedRows, RawRow, validate_usual_rows
from services.ingest.parsing.unusual_rows import UnusualRows
from services.ingest.parsing.warnings import build_warnings, count_publishing_now
from shared.contract.events import Notice

_NOT_CHECKED = Notice(
    code="not_checked",
    message=(
        "The accounts and boards of failed rows were not checked, because the database was not "
        "available. They may have further faults."
    ),
)


class RawTable(NamedTuple):
    """The rows of a document before validation, and the warnings about the document."""

    rows: Sequence[RawRow]
    lines: Sequence[int] | None = None
    """The lines of a CSV file in which the rows begin."""
    warnings: Sequence[Notice] = ()


class Reading:
    """The validation of an import's rows. `complete` is called once, after any lookup."""

    def __init__(self, table: RawTable, policy: ReadingPolicy) -> None:
        self._policy = policy
        self._warnings = table.warnings
        self._usual, unusual = validate_usual_rows(table.rows, policy, table.lines)
        self._unusual = UnusualRows(policy)
        self._unusual.read(unusual)

    def collect_names(self) -> Names | None:
        """Returns the accounts and boards to look up. None if no row needs a lookup."""
        return self._unusual.collect_names()

    @property
    def needs_directory(self) -> bool:
        """Returns whether a row would be misjudged without the lookup."""
        return self._unusual.needs_directory

    def complete(self, directory: Directory | None = None) -> ParsedRows:
        """Returns the result. Without a directory, failed rows' accounts are not checked."""
        is_unchecked = directory is None and self.collect_names() is not None
        self._unusual.complete(directory)
        valid, failed = self._usual, self._unusual.failed
        if self._unusual.valid:
            valid = sorted([*valid, *self._unusual.valid], key=attrgetter("row_number"))
        failed.sort(key=attrgetter("row_number"))
        warnings = [
            *self._warnings,
            *self._unusual.build_warnings(),
            *build_warnings(valid, self._policy),
            *([_NOT_CHECKED] if is_unchecked else []),
        ]
        return ParsedRows(valid, failed, warnings, count_publishing_now(valid, self._policy))
