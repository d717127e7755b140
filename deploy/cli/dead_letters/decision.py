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

from deploy.cli.dead_letters.letter import MAX_REPLAYS, Letter, RowName
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.dead_letters import FIRST_SEEN, REPLAYS
from shared.contract.topics import TOPICS, TopicName
from shared.kafka.records import Record

OVERHEAD = 512
"""Bytes that a record may grow by: the broker's framing, and headers that the first try had not."""
DIGEST_BYTES = 8
EVENT_SOURCE = "/pinflow/dead-letters"
_LIMITS = {topic.name: topic.max_record_bytes for topic in TOPICS}


class Stay(StrEnum):
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
    Stay.QUARANTINED: (
        "replayed as often as --max-replays allows, and poison each time. Mend the cause, then: "
        "--force"
    ),
    Stay.CUT: "not all of its bytes were kept. Ask who produced it to send it again",
    Stay.TOO_LARGE: (
        "larger than its target topic accepts. Ask who produced it to send it again, in parts"
    ),
    Stay.NO_CONTENT: (
        "its row has settled as failed, and what the row asked for can't be read. Import the row "
        "again"
    ),
    Stay.UNKNOWN_TOPIC: "it names no topic that a service reads",
}


@dataclass(frozen=True, slots=True)
class GoesBack:
    """To the topic it came from, as it was."""

    topic: TopicName


@dataclass(frozen=True, slots=True)
class BecomesImport:
    """Its row has settled, for ever: it is sent again as a new import of this one row."""


@dataclass(frozen=True, slots=True)
class Stays:
    why: Stay


Decision = GoesBack | BecomesImport | Stays


class Planned(NamedTuple):
    letter: Letter
    decision: Decision

    def document(self) -> dict[str, Any]:
        told: dict[str, str | None]
        if isinstance(self.decision, Stays):
            told = {"replay_as": None, "stays": str(self.decision.why)}
        else:
            told = {"replay_as": replayed_as(self.decision), "stays": None}
        return {
            "name": str(self.letter.name),
            **told,
            "replays": self.letter.replays,
            "code": self.letter.code,
        }


def plan(
    letters: Iterable[Letter],
    settled: Collection[RowName],
    *,
    max_replays: int,
    force: bool,
    most: int | None,
) -> list[Planned]:
    """In the order in which they were given up; at most `most` of them are replayed, and the rest
    is not in the plan.
    """
    planned: list[Planned] = []
    replayed = 0
    for letter in sorted(letters, key=lambda letter: (letter.given_up_at, letter.name)):
        decision = decide(
            letter, settled=letter.row in settled, max_replays=max_replays, force=force
        )
        replayed += not isinstance(decision, Stays)
        if most is not None and replayed > most:
            break
        planned.append(Planned(letter, decision))
    return planned


def decide(
    letter: Letter, *, settled: bool, max_replays: int = MAX_REPLAYS, force: bool = False
) -> Decision:
    if letter.topic is None:
        return Stays(Stay.UNKNOWN_TOPIC)
    if letter.cut:
        return Stays(Stay.CUT)
    if letter.replays >= max_replays and not force:
        return Stays(Stay.QUARANTINED)
    if settled and not letter.has_content:
        return Stays(Stay.NO_CONTENT)
    # A request of one row is no larger than the row's letter, which has the headers of both
    target = TopicName.IMPORT_REQUESTS if settled else letter.topic
    if letter.size + OVERHEAD > _LIMITS[target]:
        return Stays(Stay.TOO_LARGE)
    return BecomesImport() if settled else GoesBack(letter.topic)


def replayed_as(decision: GoesBack | BecomesImport) -> str:
    return decision.topic if isinstance(decision, GoesBack) else "new-import"


def counts(planned: Iterable[Planned]) -> dict[str, int]:
    """Letters by what becomes of them, most first."""
    return dict(Counter(_in_short(one.decision) for one in planned).most_common())


def _in_short(decision: Decision) -> str:
    match decision:
        case GoesBack():
            return f"back to {decision.topic}"
        case BecomesImport():
            return "as a new import"
        case Stays():
            return f"stay ({decision.why}): {decision.why.explanation}"
        case _:
            assert_never(decision)


def history(letter: Letter) -> list[tuple[str, bytes]]:
    """The headers that go with a replay, and come back with it when it is poison again."""
    return [(REPLAYS, str(letter.replays + 1).encode()), (FIRST_SEEN, letter.first_seen.encode())]


def request_of(letter: Letter, workspace_id: UUID, row: Any, now: datetime) -> Record:
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
    return Record(str(workspace_id).encode(), orjson.dumps(data), [*about, *history(letter)])
