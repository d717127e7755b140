"""What clients did and what they were told. The checker knows nothing else of the run."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

Workspace = int
"""Its place in the list of workspaces."""
Key = tuple[Workspace, str]
"""An idempotency key, or a request id, of a workspace."""


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


class RequestOutcome(StrEnum):
    """What a client may believe after its request."""

    ACCEPTED = "accepted"
    """202, 201, or a record that Kafka acknowledged: it will be, for ever."""
    REFUSED = "refused"
    """Refused, with a code that says so: nothing of it may ever be seen."""
    UNKNOWN = "unknown"
    """No answer, or one that says it can't be known: nothing, or the whole, once."""


class Channel(StrEnum):
    JSON = "json"
    CSV = "csv"
    TOPIC = "topic"


@dataclass(slots=True)
class Submission:
    """One import as it was sent, once or (a topic request) several times.

    Its first row's key is no other submission's.
    """

    workspace: Workspace
    channel: Channel
    rows: list[Row]
    outcome: RequestOutcome = RequestOutcome.UNKNOWN
    job_id: str | None = None
    answer: str = ""
    reused: RequestOutcome | None = None
    """Whether another body, of the first row alone, was sent under the same request id, and whether
    Kafka acknowledged it."""

    @property
    def marker(self) -> str:
        return self.rows[0].key


@dataclass(slots=True)
class SinglePin:
    """One POST /v1/pins.

    `pin_id` is what the answer named, `made` whether it said that this request made it.
    """

    workspace: Workspace
    key: str
    outcome: RequestOutcome = RequestOutcome.UNKNOWN
    pin_id: str | None = None
    was_created: bool = False
    sent_at: float = 0.0
    answered_at: float = 0.0
    """By the clock of the run, as all times are that the checker compares."""


class Counters(NamedTuple):
    """A job as one poll saw it."""

    status: str
    total: int
    processed: int
    created: int
    existing: int
    failed: int


class Poll(NamedTuple):
    """Consecutive polls of a job that saw the same. Times are those of the last request and of the
    first answer."""

    counters: Counters
    sent_at: float = 0.0
    answered_at: float = 0.0


class Absence(NamedTuple):
    """A poll of an accepted job that found none."""

    job_id: str
    answer: str
    sent_at: float
    answered_at: float


class Result(NamedTuple):
    """One row of a job, as the API has it.

    `pin` is the pin's id; where only the schedule has one, the pin that it will publish.
    """

    row_number: int
    status: str
    pin: str | None
    key: str | None
    error_code: str | None


class Contradiction(NamedTuple):
    """A row that two polls of a job saw with different results."""

    job_id: str
    earlier: Result
    later: Result


class ForgottenRequest(NamedTuple):
    """What a request id had become. `ended`: the job had a result for each row."""

    job_id: str
    ended: bool


@dataclass(slots=True)
class Restore:
    """Postgres was replaced by an older copy of itself.

    What the copy lacks is known from the server: the harness reads it before and after, while no
    service is connected.
    """

    snapshot_began: float
    replaced: float
    """When the older server lost its last client. No answer to a later request comes from it."""
    forgotten_pins: set[Key]
    """Keys of direct pins that the copy lacks."""
    forgotten_requests: dict[Key, ForgottenRequest]
    """Request ids that the copy lacks."""
    stranded_requests: set[str] = field(default_factory=set)
    """Request ids that were done with, and are half done in the copy. Nobody sends them again."""
    recovered: float = math.inf
    """When every consumer had processed what it had processed before."""

    def may_have_lost(self, pin: SinglePin) -> bool:
        """Tells whether the pin was made after the copy, by the client's clock and the server's."""
        in_time = pin.sent_at < self.replaced and pin.answered_at > self.snapshot_began
        return in_time and (pin.workspace, pin.key) in self.forgotten_pins


class Fault(NamedTuple):
    """`recovered`: seconds after the fault's end until the pipeline did all its work again."""

    kind: str
    began: float
    ended: float
    recovered: float


@dataclass
class History:
    seed: int
    submissions: list[Submission] = field(default_factory=list)
    pins: list[SinglePin] = field(default_factory=list)
    polls: dict[str, list[Poll]] = field(default_factory=lambda: defaultdict(list))
    """By job, in the order they were made; one that saw nothing new only moves its time."""
    absences: list[Absence] = field(default_factory=list)
    results: dict[str, dict[int, Result]] = field(default_factory=lambda: defaultdict(dict))
    """By job and row number: the first result that a poll saw."""
    contradictions: list[Contradiction] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)
    unexpected_answers: list[str] = field(default_factory=list)
    """Answers that no client should ever get, an error 500 for instance."""

    @property
    def rows(self) -> int:
        return sum(len(submission.rows) for submission in self.submissions)

    def record_poll(
        self, job_id: str, counters: Counters, asked: float = 0.0, answered: float = 0.0
    ) -> bool:
        """Notes what a poll saw. Returns whether it is new."""
        seen = self.polls[job_id]
        if seen and seen[-1].counters == counters:
            seen[-1] = seen[-1]._replace(sent_at=asked)
            return False
        seen.append(Poll(counters, asked, answered))
        return True

    def record_results(self, job_id: str, results: Iterable[Result]) -> None:
        """Notes the results that a poll saw, and those that an earlier one saw differently."""
        known = self.results[job_id]
        for result in results:
            earlier = known.setdefault(result.row_number, result)
            if earlier != result:
                self.contradictions.append(Contradiction(job_id, earlier, result))
