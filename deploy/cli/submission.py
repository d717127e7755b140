"""Submits a file as one import, or a large one as several, and waits for their results."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import typer
from rich.progress import Progress

from deploy.cli.client import REPEAT_ADVICE, BodyTooLarge, PinflowClient
from deploy.cli.combined_job import TIME_COUNTS, AcceptedPortion, Job
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.portions import RowSource
from deploy.cli.source_file import Format, SourceFile
from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES

POLL_SECONDS = 0.2
MAX_NAMED_IMPORTS = 20


class ImportOptions(NamedTuple):
    parameters: Mapping[str, str]
    """The query parameters of each import."""
    encoding: str | None
    """The encoding of the file as it is. Portions are UTF-8."""


@dataclass(slots=True)
class Submission:
    """Sends the portions of a file one after the other, so that equal keys keep their order."""

    client: PinflowClient
    file: SourceFile
    source: RowSource
    options: ImportOptions
    accepted: list[AcceptedPortion] = field(default_factory=list)
    _max_body_bytes: int = MAX_IMPORT_BODY_BYTES
    _next_row: int = 0
    _checked_limit: int | None = None
    """The limit up to which all rows are known to fit."""

    def send(self, progress: Progress) -> None:
        """Sends the file. Ends the command with the accepted imports if Pinflow refuses."""
        total = len(self.source.rows)
        task = progress.add_task("sending", total=total or None)
        try:
            while not self.accepted or self._next_row < total:
                self._send_next()
                progress.update(task, description=self._describe())
                if len(self.accepted) > 1:
                    self._read_progress()
                progress.update(task, completed=self._count_processed())
        except typer.Exit:
            self._explain_accepted()
            raise
        except KeyboardInterrupt:
            typer.echo(
                f"\nStopped. The last rows that were sent may be accepted. {REPEAT_ADVICE}",
                err=True,
            )
            self._explain_accepted()
            raise typer.Exit(ExitCode.UNAVAILABLE) from None

    def wait(self, progress: Progress) -> None:
        """Shows the progress until all rows have a result."""
        total = sum(portion.job["total_rows"] for portion in self.accepted)
        (task,) = progress.task_ids
        progress.update(task, description=self._describe(), total=total)
        try:
            for portion in self.accepted:
                while not portion.has_ended:
                    portion.job = self._read_job(portion)
                    progress.update(task, completed=self._count_processed())
                    if not portion.has_ended:
                        time.sleep(POLL_SECONDS)
        except typer.Exit:
            self._explain_accepted()
            raise
        except KeyboardInterrupt:
            typer.echo("\nThe command stopped.", err=True)
            self._explain_accepted()
            raise typer.Exit(ExitCode.UNAVAILABLE) from None
        progress.update(task, completed=self._count_processed())

    def _send_next(self) -> None:
        """Sends the next portion. If it is too large, adopts the limit that Pinflow names."""
        start, total = self._next_row, len(self.source.rows)
        is_whole = not self.accepted and self.source.fits(self._max_file_bytes(self.file.name))
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
        self.accepted.append(AcceptedPortion(start + 1, end, job, portion_lines))
        self._next_row = end

    def _require_small_rows(self, max_bytes: int) -> None:
        """Ends the command if a row is too large for any import, if possible before the first."""
        if self._checked_limit == max_bytes:
            return
        row = self.source.find_too_large(self._next_row, max_bytes)
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

    def _read_progress(self) -> None:
        """Reads the first import that has not ended. The others wait behind it."""
        for portion in self.accepted:
            if not portion.has_ended:
                portion.job = self._read_job(portion)
                return

    def _read_job(self, portion: AcceptedPortion) -> Job:
        # Only the answer to the submission is sure to count the rows by their time
        counts = {name: portion.job.get(name) for name in TIME_COUNTS}
        job = self.client.job(portion.job_id)
        return job | {name: count for name, count in counts.items() if job.get(name) is None}

    def _count_processed(self) -> int:
        return sum(int(portion.job["processed_rows"]) for portion in self.accepted)

    def _describe(self) -> str:
        if len(self.accepted) == 1:
            return f"import {self.accepted[0].job_id}"
        return f"{len(self.accepted)} imports"

    def _explain_accepted(self) -> None:
        """Says which rows were accepted before the command ended."""
        if not self.accepted:
            return
        is_complete = self._next_row >= len(self.source.rows)
        part = "All" if is_complete else f"Rows 1 to {self._next_row} of"
        count = len(self.source.rows)
        lines = [
            f"{part} {count} rows were accepted, as {len(self.accepted)} import(s):",
            *(
                f"  {portion.job_id}  rows {portion.first_row} to {portion.last_row}"
                for portion in self.accepted[:MAX_NAMED_IMPORTS]
            ),
        ]
        if len(self.accepted) > MAX_NAMED_IMPORTS:
            lines.append("  … See all with: pinflow imports list")
        lines.append(
            "They continue. See their progress: pinflow imports show ID"
            if is_complete
            else "They continue. To import the rest, run the same command again: no row is "
            "published twice."
        )
        typer.echo("\n".join(lines), err=True)
