"""Compares the sent imports with the records on the topic.

It does no I/O, so unit tests run it on constructed records.
"""

import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from services.ingest.records import ImportBatch

MAX_SHOWN = 5
"""The number of findings of each kind that are printed."""


class AppendOutcome(StrEnum):
    """The outcome of an import as its sender knows it."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Content:
    """The number of an import's records, and the CRC-32 of all their values in order."""

    records: int = 0
    checksum: int = 0

    def followed_by(self, value: bytes) -> "Content":
        """Returns the content with one more record."""
        return Content(self.records + 1, zlib.crc32(value, self.checksum))


def summarize_batch(batch: ImportBatch) -> Content:
    """Returns the content that a reader must find for the batch."""
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
    """Descriptions of wrong imports by the kind of error. Without errors all lists are empty."""

    partial: list[str] = field(default_factory=list)
    """Only some of the records are on the topic, or other records than were sent."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged, but not on the topic."""
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Refused but on the topic, or sent by nobody. Also a log that became shorter."""

    unknown_stored: int = 0
    """The number of complete imports on the topic whose sender does not know the outcome."""

    def details(self) -> list[str]:
        """Returns the first findings of each kind."""
        each = (self.partial, self.lost, self.duplicated, self.unexpected)
        return [finding for findings in each for finding in findings[:MAX_SHOWN]]


class Ledger:
    """Stores all imports that were sent to one topic, and the records read since the last check."""

    def __init__(self) -> None:
        self._sent: dict[UUID, _Sent] = {}
        self._read: dict[UUID, Content] = {}

    def send(self, job_id: UUID, content: Content) -> None:
        """Records an import before it is sent."""
        self._sent[job_id] = _Sent(content)

    def settle(self, job_id: UUID, outcome: AppendOutcome) -> None:
        """Records the outcome of an import."""
        self._sent[job_id].outcome = outcome

    def read(self, job_id: UUID, value: bytes) -> None:
        """Records a value from the topic. Call it in the order of the job's records."""
        self._read[job_id] = self._read.get(job_id, Content()).followed_by(value)

    def count(self, outcome: AppendOutcome | None) -> int:
        """Counts the imports with this outcome. None counts those without an answer."""
        return sum(sent.outcome is outcome for sent in self._sent.values())

    def copy_unread(self) -> "Ledger":
        """Returns a ledger with the same sent imports and without any records."""
        copy = Ledger()
        copy._sent = {
            job_id: _Sent(sent.content, sent.outcome) for job_id, sent in self._sent.items()
        }
        return copy

    def check(self) -> Findings:
        """Checks the records that were read since the last check.

        An import with an unknown outcome is checked when its records arrive.
        """
        findings = Findings()
        for job_id, content in self._read.items():
            self._check_content(job_id, content, findings)
        self._read.clear()
        for job_id, sent in self._sent.items():
            if sent.outcome is AppendOutcome.ACKNOWLEDGED and not sent.is_stored:
                findings.lost.append(f"job {job_id} was acknowledged, but is not on the topic")
                sent.is_stored = True  # so that it is reported only once
        return findings

    def _check_content(self, job_id: UUID, content: Content, findings: Findings) -> None:
        sent = self._sent.get(job_id)
        if sent is None:
            findings.unexpected.append(f"job {job_id} was sent by nobody")
            return
        name = f"job {job_id} ({sent.outcome}): {content.records} of {sent.content.records} records"
        if sent.is_stored or content.records > sent.content.records:
            findings.duplicated.append(f"{name}{' more' if sent.is_stored else ''}")
        elif content != sent.content:
            findings.partial.append(name)
        elif sent.outcome is AppendOutcome.REFUSED:
            findings.unexpected.append(f"job {job_id} was refused, but is on the topic")
        elif sent.outcome is not AppendOutcome.ACKNOWLEDGED:
            findings.unknown_stored += 1
        sent.is_stored = True
