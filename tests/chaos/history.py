"""What clients did and what they were told. The checker knows nothing else of the run."""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

Workspace = int
"""Its place in the list of workspaces."""


class Expected(StrEnum):
    """What a row must become, whatever happens: a fault that passes fails no row."""

    PUBLISHED = "created or existing"
    INVALID = "validation_error"
    NO_ACCOUNT = "account_not_found"
    NO_BOARD = "board_not_found"


class Row(NamedTuple):
    key: str
    expected: Expected
    scheduled: bool = False


class Told(StrEnum):
    """What a client may believe after its request."""

    DONE = "done"
    """202, 201, or a record that Kafka acknowledged: it will be, for ever."""
    NOTHING = "nothing"
    """Refused, with a code that says so: nothing of it may ever be seen."""
    UNKNOWN = "unknown"
    """No answer, or one that says it can't be known: nothing, or the whole, once."""


class Channel(StrEnum):
    JSON = "json"
    CSV = "csv"
    TOPIC = "topic"


@dataclass(slots=True)
class Submission:
    """One import as it was sent, once or (a topic request) several times. Its first row's key is no other submission's."""

    workspace: Workspace
    channel: Channel
    rows: list[Row]
    told: Told = Told.UNKNOWN
    job_id: str | None = None
    answer: str = ""

    @property
    def marker(self) -> str:
        return self.rows[0].key


@dataclass(slots=True)
class SinglePin:
    """One POST /v1/pins. `pin_id` is what the answer named, `made` whether it said that this request made it."""

    workspace: Workspace
    key: str
    told: Told = Told.UNKNOWN
    pin_id: str | None = None
    made: bool = False


class Counters(NamedTuple):
    """A job as one poll saw it."""

    status: str
    total: int
    processed: int
    created: int
    existing: int
    failed: int


class Fault(NamedTuple):
    """`recovered` is how many seconds after the fault's end the pipeline did its whole work again."""

    kind: str
    began: float
    ended: float
    recovered: float


@dataclass
class History:
    seed: int
    submissions: list[Submission] = field(default_factory=list)
    pins: list[SinglePin] = field(default_factory=list)
    polls: dict[str, list[Counters]] = field(default_factory=lambda: defaultdict(list))
    """By job, in the order they were made; one that saw nothing new is left out."""
    faults: list[Fault] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Answers that no client should ever get: an error 500, a 404 for what was accepted."""
    reused_requests: int = 0
    """Topic requests under a request id that had another body, acknowledged: a dead letter each, at least."""

    @property
    def rows(self) -> int:
        return sum(len(submission.rows) for submission in self.submissions)

    def saw(self, job_id: str, counters: Counters) -> None:
        seen = self.polls[job_id]
        if not seen or seen[-1] != counters:
            seen.append(counters)
