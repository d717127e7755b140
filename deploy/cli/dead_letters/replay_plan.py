"""Decides what a replay makes of a dead letter: by its headers and whether its row has settled."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple, assert_never
from uuid import UUID

import orjson

from deploy.cli.dead_letters.model import (
    MAX_REPLAYS,
    StoredDeadLetter,
)
from deploy.cli.row_id import RowId
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.dead_letters import FIRST_SEEN, REPLAYS
from shared.contract.topics import TOPICS, TopicName
from shared.kafka.records import Record

OVERHEAD_BYTES = 512
"""Bytes that a record may grow by: the broker's framing, and headers that the first try had not."""
DIGEST_BYTES = 8
EVENT_SOURCE = "/pinflow/dead-letters"
_LIMITS = {topic.name: topic.max_record_bytes for topic in TOPICS}


class SkipReason(StrEnum):
    """Why a letter is not replayed."""

    QUARANTINED = "quarantined"
    CUT = "cut"
    TOO_LARGE = "too_large"
    NO_CONTENT = "no_content"
    UNKNOWN_TOPIC = "unknown_topic"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    SkipReason.QUARANTINED: (
        "replayed as often as --max-replays allows, and poison each time. Mend the cause, then: "
        "--force"
    ),
    SkipReason.CUT: "not all of its bytes were kept. Ask who produced it to send it again",
    SkipReason.TOO_LARGE: (
        "larger than its target topic accepts. Ask who produced it to send it again, in parts"
    ),
    SkipReason.NO_CONTENT: (
        "its row has settled as failed, and what the row asked for can't be read. Import the row "
        "again"
    ),
    SkipReason.UNKNOWN_TOPIC: "it names no topic that a service reads",
}


@dataclass(frozen=True, slots=True)
class ReplayToTopic:
    """To the topic it came from, as it was."""

    topic: TopicName


@dataclass(frozen=True, slots=True)
class ReplayAsImport:
    """Its row has settled, for ever: it is sent again as a new import of this one row."""


@dataclass(frozen=True, slots=True)
class Skip:
    reason: SkipReason


ReplayAction = ReplayToTopic | ReplayAsImport | Skip


class PlannedAction(NamedTuple):
    letter: StoredDeadLetter
    action: ReplayAction

    def document(self) -> dict[str, Any]:
        told: dict[str, str | None]
        if isinstance(self.action, Skip):
            told = {"replay_as": None, "stays": str(self.action.reason)}
        else:
            told = {"replay_as": name_target(self.action), "stays": None}
        return {
            "name": str(self.letter.name),
            **told,
            "replays": self.letter.replays,
            "code": self.letter.code,
        }


def plan(
    letters: Iterable[StoredDeadLetter],
    settled: Collection[RowId],
    *,
    max_replays: int,
    force: bool,
    most: int | None,
) -> list[PlannedAction]:
    """In the order in which they were given up; at most `most` of them are replayed, and the rest
    is not in the plan.
    """
    planned: list[PlannedAction] = []
    replayed = 0
    for letter in sorted(letters, key=lambda letter: (letter.given_up_at, letter.name)):
        action = choose_action(
            letter, settled=letter.row in settled, max_replays=max_replays, force=force
        )
        replayed += not isinstance(action, Skip)
        if most is not None and replayed > most:
            break
        planned.append(PlannedAction(letter, action))
    return planned


def choose_action(
    letter: StoredDeadLetter, *, settled: bool, max_replays: int = MAX_REPLAYS, force: bool = False
) -> ReplayAction:
    if letter.topic is None:
        return Skip(SkipReason.UNKNOWN_TOPIC)
    if letter.cut:
        return Skip(SkipReason.CUT)
    if letter.replays >= max_replays and not force:
        return Skip(SkipReason.QUARANTINED)
    if settled and not letter.has_content:
        return Skip(SkipReason.NO_CONTENT)
    # A request of one row is no larger than the row's letter, which has the headers of both
    target = TopicName.IMPORT_REQUESTS if settled else letter.topic
    if letter.size + OVERHEAD_BYTES > _LIMITS[target]:
        return Skip(SkipReason.TOO_LARGE)
    return ReplayAsImport() if settled else ReplayToTopic(letter.topic)


def name_target(action: ReplayToTopic | ReplayAsImport) -> str:
    return action.topic if isinstance(action, ReplayToTopic) else "new-import"


def counts(planned: Iterable[PlannedAction]) -> dict[str, int]:
    """Letters by what becomes of them, most first."""
    return dict(Counter(_describe(one.action) for one in planned).most_common())


def _describe(action: ReplayAction) -> str:
    match action:
        case ReplayToTopic():
            return f"back to {action.topic}"
        case ReplayAsImport():
            return "as a new import"
        case Skip():
            return f"stay ({action.reason}): {action.reason.explanation}"
        case _:
            assert_never(action)


def build_history_headers(letter: StoredDeadLetter) -> list[tuple[str, bytes]]:
    """The headers that go with a replay, and come back with it when it is poison again."""
    return [(REPLAYS, str(letter.replays + 1).encode()), (FIRST_SEEN, letter.first_seen.encode())]


def build_import_request(
    letter: StoredDeadLetter, workspace_id: UUID, row: Any, now: datetime
) -> Record:
    """A request for an import of this row alone.

    Its id is the same whenever, and for every letter of the same record, this is done.
    """
    content = orjson.dumps(row)
    # With a digest: offsets begin anew when a topic is made anew, and the id would stand for
    # another row
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
    about = build_headers(
        EventType.IMPORT_REQUESTED, event_id=request_id, source=EVENT_SOURCE, time=now
    )
    return Record(
        str(workspace_id).encode(), orjson.dumps(data), [*about, *build_history_headers(letter)]
    )
