"""Compares the imports that were sent with the records that were read.

Pure: doctored ones test it.
"""

import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from services.ingest.records import ImportBatch

SHOWN = 5
"""Findings of one sort that are written out."""


class AppendOutcome(StrEnum):
    """What whoever sent an import was told."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Content:
    """How many records an import has, and the CRC-32 of all their values in order."""

    records: int = 0
    checksum: int = 0

    def followed_by(self, value: bytes) -> "Content":
        """Returns the content with one more record."""
        return Content(self.records + 1, zlib.crc32(value, self.checksum))


def summarize_batch(batch: ImportBatch) -> Content:
    """Returns what a reader must find of the batch."""
    content = Content()
    for record in batch.records:
        content = content.followed_by(record.value)
    return content


@dataclass(slots=True)
class _Sent:
    content: Content
    outcome: AppendOutcome | None = None
    is_stored: bool = False


@dataclass(slots=True)
class Findings:
    """Jobs by what is wrong with them, in words. All lists are empty if nothing is."""

    partial: list[str] = field(default_factory=list)
    """Some of its records stand, or others than were sent."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there."""
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Refused and there all the same, or sent by nobody; a log that became shorter; errors that
    nobody foresaw."""

    unknown_stored: int = 0
    """Imports whose sender did not learn their outcome, and which stand whole."""

    def details(self) -> list[str]:
        """Returns the first findings of each sort."""
        each = (self.partial, self.lost, self.duplicated, self.unexpected)
        return [finding for findings in each for finding in findings[:SHOWN]]


class Ledger:
    """Remembers every import that was sent to one topic, and what has been read of it since the
    last check.
    """

    def __init__(self) -> None:
        self._sent: dict[UUID, _Sent] = {}
        self._found: dict[UUID, Content] = {}

    def send(self, job_id: UUID, content: Content) -> None:
        """Notes that an import is about to be sent."""
        self._sent[job_id] = _Sent(content)

    def settle(self, job_id: UUID, outcome: AppendOutcome) -> None:
        """Notes what the sender was told of an import."""
        self._sent[job_id].outcome = outcome

    def read(self, job_id: UUID, value: bytes) -> None:
        """Notes a record that stands on the topic; records of one job come in their order."""
        self._found[job_id] = self._found.get(job_id, Content()).followed_by(value)

    def count(self, outcome: AppendOutcome | None) -> int:
        """Counts the imports with this outcome; None: those that nothing was told of."""
        return sum(sent.outcome is outcome for sent in self._sent.values())

    def read_again(self) -> "Ledger":
        """Returns a ledger of the same imports of which nothing has been read."""
        again = Ledger()
        again._sent = {
            job_id: _Sent(sent.content, sent.outcome) for job_id, sent in self._sent.items()
        }
        return again

    def check(self) -> Findings:
        """Judges what was read since the last check.

        An import that may still arrive is judged when it does.
        """
        findings = Findings()
        for job_id, found in self._found.items():
            self._check_found(job_id, found, findings)
        self._found.clear()
        for job_id, sent in self._sent.items():
            if sent.outcome is AppendOutcome.ACKNOWLEDGED and not sent.is_stored:
                findings.lost.append(f"job {job_id} was acknowledged and is not there")
                sent.is_stored = True  # told once
        return findings

    def _check_found(self, job_id: UUID, found: Content, findings: Findings) -> None:
        sent = self._sent.get(job_id)
        if sent is None:
            findings.unexpected.append(f"job {job_id} was sent by nobody")
            return
        name = f"job {job_id} ({sent.outcome}): {found.records} of {sent.content.records} records"
        if sent.is_stored or found.records > sent.content.records:
            findings.duplicated.append(f"{name}{' more' if sent.is_stored else ''}")
        elif found != sent.content:
            findings.partial.append(name)
        elif sent.outcome is AppendOutcome.REFUSED:
            findings.unexpected.append(f"job {job_id} was refused and stands")
        elif sent.outcome is not AppendOutcome.ACKNOWLEDGED:
            findings.unknown_stored += 1
        sent.is_stored = True
