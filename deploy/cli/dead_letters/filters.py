"""Filters dead letters by an operator's options, and counts them by their errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from deploy.cli.dead_letters.model import DeadLetterName, StoredDeadLetter
from shared.contract.errors import ErrorCode
from shared.contract.topics import TopicName


class TopicFilter(StrEnum):
    """The source topics of dead letters."""

    IMPORT_REQUESTS = TopicName.IMPORT_REQUESTS
    IMPORTS = TopicName.IMPORTS
    OUTCOMES = TopicName.OUTCOMES
    PIN_EVENTS = TopicName.PIN_EVENTS
    JOB_EVENTS = TopicName.JOB_EVENTS


class ServiceFilter(StrEnum):
    """The services that write dead letters."""

    INGEST = "ingest"
    PUBLISHER = "publisher"
    STATUS = "status"
    WEBHOOKS = "webhooks"


class CodeFilter(StrEnum):
    """The error codes of dead letters."""

    INVALID_RECORD = ErrorCode.INVALID_RECORD
    REQUEST_ID_REUSED = ErrorCode.REQUEST_ID_REUSED
    WORKSPACE_NOT_FOUND = ErrorCode.WORKSPACE_NOT_FOUND
    RECORD_REFUSED = ErrorCode.RECORD_REFUSED


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """The dead letters that an operator selects. A None, or no names, selects all."""

    names: frozenset[DeadLetterName] = frozenset()
    topic: TopicFilter | None = None
    service: ServiceFilter | None = None
    code: CodeFilter | None = None
    since: datetime | None = None
    workspace_id: UUID | None = None
    job_id: UUID | None = None

    def matches(self, letter: StoredDeadLetter) -> bool:
        """Returns whether the dead letter passes all filters."""
        required_and_actual = (
            (self.topic, letter.topic),
            (self.service, letter.service),
            (self.code, letter.code),
            (self.workspace_id, letter.workspace_id),
            (self.job_id, letter.job_id),
        )
        if self.names and letter.name not in self.names:
            return False
        if self.since is not None and letter.given_up_at < self.since:
            return False
        return all(
            required is None or required == actual for required, actual in required_and_actual
        )


def build_histogram(letters: Iterable[StoredDeadLetter]) -> list[dict[str, Any]]:
    """Counts dead letters by topic, service and code, largest count first.

    Each count has the latest error message and the times of the first and last dead letter.
    """
    groups: dict[tuple[str, str, str], list[StoredDeadLetter]] = {}
    for letter in letters:
        groups.setdefault(
            (letter.topic or letter.topic_name, letter.service, letter.code), []
        ).append(letter)
    return [
        {
            "letters": len(group),
            "topic": topic,
            "service": service,
            "code": code,
            **_summarize_group(group),
        }
        for (topic, service, code), group in sorted(
            groups.items(), key=lambda item: (-len(item[1]), item[0])
        )
    ]


def _summarize_group(group: Sequence[StoredDeadLetter]) -> dict[str, Any]:
    latest = max(group, key=lambda letter: letter.given_up_at)
    return {
        "first": min(letter.given_up_at for letter in group),
        "last": latest.given_up_at,
        "message": latest.message,
    }
