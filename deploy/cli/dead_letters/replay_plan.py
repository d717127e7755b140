"""Decides how a dead letter is replayed, by its headers and by whether its row has settled.

Does no I/O.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple, assert_never
from uuid import UUID

import orjson

from deploy.cli.dead_letters.model import MAX_REPLAYS, StoredDeadLetter
from deploy.cli.row_id import RowId
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.dead_letters import FIRST_SEEN, REPLAYS
from shared.contract.topics import TOPICS, TopicName
from shared.kafka.records import Record

OVERHEAD_BYTES = 512
"""The bytes that a record may grow by: the broker's framing, and headers that are new on replay."""
DIGEST_BYTES = 8
EVENT_SOURCE = "/pinflow/dead-letters"
_MAX_RECORD_BYTES = {topic.name: topic.max_record_bytes for topic in TOPICS}


class SkipReason(StrEnum):
    """The reason why a dead letter is not replayed."""

    QUARANTINED = "quarantined"
    TRUNCATED = "cut"
    TOO_LARGE = "too_large"
    NO_CONTENT = "no_content"
    UNKNOWN_TOPIC = "unknown_topic"

    @property
    def explanation(self) -> str:
        """The reason in words, with the operator's next step."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    SkipReason.QUARANTINED: (
        "replayed as often as --max-replays allows, and a service gave up each time. Remove the "
        "cause, then replay with --force"
    ),
    SkipReason.TRUNCATED: (
        "some of the record's bytes were not kept, because it was too large. Ask its producer to "
        "send it again"
    ),
    SkipReason.TOO_LARGE: (
        "larger than the target topic accepts. Ask its producer to send it again in smaller parts"
    ),
    SkipReason.NO_CONTENT: (
        "the row has settled as failed, and its fields can't be read. Import the row again"
    ),
    SkipReason.UNKNOWN_TOPIC: (
        "no service of this version reads its source topic. Replay it with a version that does"
    ),
}


@dataclass(frozen=True, slots=True)
class ReplayToTopic:
    """Sends the record to its source topic again, unchanged."""

    topic: TopicName


@dataclass(frozen=True, slots=True)
class ReplayAsImport:
    """Sends the record's row as a new import of one row, because its own result is final."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Leaves the dead letter as it is."""

    reason: SkipReason


ReplayAction = ReplayToTopic | ReplayAsImport | Skip


class PlannedAction(NamedTuple):
    """A dead letter, and the action that a replay takes for it."""

    letter: StoredDeadLetter
    action: ReplayAction

    def document(self) -> dict[str, Any]:
        """Returns the planned action for JSON."""
        replay_as: str | None = None
        skip_reason: str | None = None
        if isinstance(self.action, Skip):
            skip_reason = str(self.action.reason)
        else:
            replay_as = name_target(self.action)
        return {
            "name": str(self.letter.name),
            "replay_as": replay_as,
            "stays": skip_reason,
            "replays": self.letter.replays,
            "code": self.letter.code,
        }


def plan_replay(
    letters: Iterable[StoredDeadLetter],
    settled: Collection[RowId],
    *,
    max_replays: int,
    force: bool,
    limit: int | None,
) -> list[PlannedAction]:
    """Plans the oldest dead letters first.

    The plan ends before the dead letter that would be replay number `limit` + 1. Skipped ones do
    not count.
    """
    plan: list[PlannedAction] = []
    replays = 0
    for letter in sorted(letters, key=lambda letter: (letter.given_up_at, letter.name)):
        action = choose_action(
            letter, is_settled=letter.row in settled, max_replays=max_replays, force=force
        )
        replays += not isinstance(action, Skip)
        if limit is not None and replays > limit:
            break
        plan.append(PlannedAction(letter, action))
    return plan


def choose_action(
    letter: StoredDeadLetter,
    *,
    is_settled: bool,
    max_replays: int = MAX_REPLAYS,
    force: bool = False,
) -> ReplayAction:
    """Decides how a dead letter is replayed. `is_settled` is true if its row has a result."""
    if letter.topic is None:
        return Skip(SkipReason.UNKNOWN_TOPIC)
    if letter.is_truncated:
        return Skip(SkipReason.TRUNCATED)
    if letter.replays >= max_replays and not force:
        return Skip(SkipReason.QUARANTINED)
    if is_settled and not letter.has_content:
        return Skip(SkipReason.NO_CONTENT)
    # The dead letter's size plus the overhead is also an upper bound for an import of its row: the
    # import lacks the headers that describe the dead letter
    target = TopicName.IMPORT_REQUESTS if is_settled else letter.topic
    if letter.size + OVERHEAD_BYTES > _MAX_RECORD_BYTES[target]:
        return Skip(SkipReason.TOO_LARGE)
    return ReplayAsImport() if is_settled else ReplayToTopic(letter.topic)


def name_target(action: ReplayToTopic | ReplayAsImport) -> str:
    """Returns the target of a replay: the topic's name or `new-import`."""
    return action.topic if isinstance(action, ReplayToTopic) else "new-import"


def count_actions(plan: Iterable[PlannedAction]) -> dict[str, int]:
    """Counts the dead letters of each action, largest count first."""
    return dict(Counter(_describe(planned.action) for planned in plan).most_common())


def _describe(action: ReplayAction) -> str:
    match action:
        case ReplayToTopic():
            return f"back to {action.topic}"
        case ReplayAsImport():
            return "as a new import"
        case Skip():
            return f"not replayed ({action.reason}): {action.reason.explanation}"
        case _:
            assert_never(action)


def build_replay_headers(letter: StoredDeadLetter) -> list[tuple[str, bytes]]:
    """Builds the headers that count replays.

    If the record becomes a dead letter again, the service copies them to the new one.
    """
    return [(REPLAYS, str(letter.replays + 1).encode()), (FIRST_SEEN, letter.first_seen.encode())]


def build_import_request(
    letter: StoredDeadLetter, workspace_id: UUID, row: Any, now: datetime
) -> Record:
    """Builds a request for an import of one row.

    The request id is the same in each replay and for all dead letters of the same record. So ingest
    accepts only one import for all of them.
    """
    content = orjson.dumps(row)
    # With a digest, because a topic that is created again starts at offset 0: its records would
    # have the request ids of other rows
    digest = blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
    request_id = f"dead-letter:{letter.topic}:{letter.partition}:{letter.offset}:{digest}"
    source = (
        f"dead letter of job {letter.job_id}, row {letter.row.row_number if letter.row else '?'}"
    )
    data = {
        "request_id": request_id,
        "workspace_id": workspace_id,
        "source": source,
        "rows": [orjson.Fragment(content)],
    }
    event_headers = build_headers(
        EventType.IMPORT_REQUESTED, event_id=request_id, source=EVENT_SOURCE, time=now
    )
    return Record(
        str(workspace_id).encode(),
        orjson.dumps(data),
        [*event_headers, *build_replay_headers(letter)],
    )
