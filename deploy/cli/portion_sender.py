"""Sends the rows of a file in portions that one import can have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.cli.client import BodyTooLarge, PinflowClient
from deploy.cli.combined_job import AcceptedPortion, Job
from deploy.cli.exit_codes import fail
from deploy.cli.portions import RowSource
from deploy.cli.source_file import Format, SourceFile
from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES


class ImportOptions(NamedTuple):
    parameters: Mapping[str, str]
    """The query parameters of each import."""
    encoding: str | None
    """The encoding of the file as it is. Portions are UTF-8."""


@dataclass(slots=True)
class PortionSender:
    """Sends the portions of a file one after the other."""

    client: PinflowClient
    file: SourceFile
    source: RowSource
    options: ImportOptions
    sent: list[AcceptedPortion] = field(default_factory=list)
    next_row: int = 0
    """The index of the first row that was not sent."""
    _max_body_bytes: int = MAX_IMPORT_BODY_BYTES
    _checked_limit: int | None = None
    """The limit up to which all rows are known to fit."""

    @property
    def total_rows(self) -> int:
        return len(self.source.rows)

    @property
    def is_done(self) -> bool:
        return bool(self.sent) and self.next_row >= self.total_rows

    def send_next(self) -> None:
        """Sends the next portion. If it is too large, adopts the limit that Pinflow names."""
        start, total = self.next_row, self.total_rows
        is_whole = not self.sent and self.source.fits(self._max_file_bytes(self.file.name))
        end = total
        if not is_whole:
            max_bytes = self._max_file_bytes(self._name_portion(total, total))
            self._require_small_rows(max_bytes)
            end = self.source.choose_end(start, max_bytes)
        body = self.source.whole if is_whole else self.source.build_portion(start, end)
        try:
            job = self._submit(body, start, end, is_whole=is_whole)
        except BodyTooLarge as error:
            if error.limit_bytes >= self._max_body_bytes or not total:
                fail(error.message)
            self._max_body_bytes = error.limit_bytes
            return
        lines = self.source.lines
        portion_lines = None if is_whole or lines is None else list(lines[start:end])
        self.sent.append(AcceptedPortion(start + 1, end, job, portion_lines))
        self.next_row = end

    def _require_small_rows(self, max_bytes: int) -> None:
        """Ends the command if a row is too large for any import, if possible before the first."""
        if self._checked_limit == max_bytes:
            return
        row = self.source.find_too_large(self.next_row, max_bytes)
        if row is not None:
            fail(
                f"Row {row + 1} alone is larger than an import may be, {self._max_body_bytes} "
                "bytes. Shorten its texts."
            )
        self._checked_limit = max_bytes

    def _max_file_bytes(self, name: str) -> int:
        """Returns the limit of a file in a body. A CSV file is sent in a form."""
        is_form = self.file.format is Format.CSV
        return self._max_body_bytes - (self.client.measure_csv_overhead(name) if is_form else 0)

    def _name_portion(self, first_row: int, last_row: int) -> str:
        return f"{self.file.name}, rows {first_row} to {last_row}"

    def _submit(self, body: bytes, start: int, end: int, *, is_whole: bool) -> Job:
        parameters = dict(self.options.parameters)
        if self.file.format is Format.JSON:
            return self.client.submit_json(body, parameters)
        name = self.file.name if is_whole else self._name_portion(start + 1, end)
        if is_whole and self.options.encoding:
            parameters["encoding"] = self.options.encoding
        return self.client.submit_csv(body, name, parameters)
