"""Submits a file as one import, or a large one as several, and waits for their results."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import typer
from rich.progress import Progress

from deploy.cli.client import REPEAT_ADVICE, PinflowClient
from deploy.cli.combined_job import TIME_COUNTS, AcceptedPortion, Job
from deploy.cli.counts import number_of
from deploy.cli.exit_codes import ExitCode
from deploy.cli.portion_sender import PortionSender
from deploy.cli.progress import build_progress
from shared.contract.events import MAX_ROWS

POLL_SECONDS = 0.2
MAX_NAMED_IMPORTS = 20


@dataclass(slots=True)
class Submission:
    """Imports a file, and explains what was accepted if the command ends before that."""

    sender: PortionSender

    @property
    def accepted(self) -> list[AcceptedPortion]:
        return self.sender.sent

    def send(self, progress: Progress) -> None:
        """Sends the file. Ends the command with the accepted imports if Pinflow refuses."""
        task = progress.add_task("sending", total=self.sender.total_rows or None)
        earlier = self.sender.source.find_earlier_keys()
        try:
            while not self.sender.is_done:
                self._wait_for_keys(earlier, progress)
                self.sender.send_next()
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
                self._wait_for(portion, progress)
        except typer.Exit:
            self._explain_accepted()
            raise
        except KeyboardInterrupt:
            typer.echo("\nThe command stopped.", err=True)
            self._explain_accepted()
            raise typer.Exit(ExitCode.UNAVAILABLE) from None
        progress.update(task, completed=self._count_processed())

    def _wait_for_keys(self, earlier: Mapping[int, int], progress: Progress) -> None:
        """Waits for the imports whose keys the next one repeats: the first row has to win.

        Imports are settled at the same time, in any order. `earlier` has the last earlier row with
        the same key, by row.
        """
        first = self.sender.next_row + 1
        shared = {earlier[row] for row in range(first, first + MAX_ROWS) if row in earlier}
        for portion in self.accepted:
            if any(portion.first_row <= row <= portion.last_row for row in shared):
                self._wait_for(portion, progress)

    def _wait_for(self, portion: AcceptedPortion, progress: Progress) -> None:
        (task,) = progress.task_ids
        while not portion.has_ended:
            portion.job = self._read_job(portion)
            progress.update(task, completed=self._count_processed())
            if not portion.has_ended:
                time.sleep(POLL_SECONDS)

    def _read_progress(self) -> None:
        """Reads the first import that has not ended. The others wait behind it."""
        for portion in self.accepted:
            if not portion.has_ended:
                portion.job = self._read_job(portion)
                return

    def _read_job(self, portion: AcceptedPortion) -> Job:
        # Only the answer to the submission is sure to count the rows by their time
        counts = {name: portion.job.get(name) for name in TIME_COUNTS}
        job = read_progress(self.sender.client, portion.job_id)
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
        part = "All" if self.sender.is_done else f"Rows 1 to {self.sender.next_row} of"
        count = self.sender.total_rows
        lines = [
            f"{part} {count} rows were accepted, as {number_of(len(self.accepted), 'import')}:",
            *(
                f"  {portion.job_id}  rows {portion.first_row} to {portion.last_row}"
                for portion in self.accepted[:MAX_NAMED_IMPORTS]
            ),
        ]
        if len(self.accepted) > MAX_NAMED_IMPORTS:
            lines.append("  … See all with: pinflow imports list")
        lines.append(
            "They continue. See their progress: pinflow imports watch ID"
            if self.sender.is_done
            else "They continue. To import the rest, run the same command again: no row is "
            "published twice."
        )
        typer.echo("\n".join(lines), err=True)


def follow(client: PinflowClient, job_id: str) -> Job:
    """Shows the progress of an import until it has ended. Returns it with its results."""
    with build_progress("rows") as progress:
        task = progress.add_task(f"import {job_id}", total=None)
        try:
            while True:
                job = read_progress(client, job_id)
                total = job["total_rows"] or None
                progress.update(task, total=total, completed=job["processed_rows"])
                if job["completed_at"] is not None:
                    return job
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            typer.echo(
                "\nThe command stopped. The import continues. Follow it with: pinflow imports "
                f"watch {job_id}",
                err=True,
            )
            raise typer.Exit(ExitCode.UNAVAILABLE) from None


def read_progress(client: PinflowClient, job_id: str) -> Job:
    """Reads an import. It has results only if it has ended."""
    job = client.job(job_id, with_results=False)
    return job if job["completed_at"] is None else client.job(job_id)
