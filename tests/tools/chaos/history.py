"""The history of a run: the clients' requests, the answers, and the faults.

The checker compares it with the final state.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from shared.contract.events import OnExisting

Workspace = int
"""A workspace's index in the list of workspaces."""
Key = tuple[Workspace, str]
"""An idempotency key, or a request id, of a workspace."""


class Expected(StrEnum):
    """The result that a row must get, whatever happens. A temporary fault must not fail a row."""

    PUBLISHED = "created or existing"
    INVALID = "validation_error"
    NO_ACCOUNT = "account_not_found"
    NO_BOARD = "board_not_found"
    CANCELED = "canceled"
    """Only of an import that a client has canceled."""


class Row(NamedTuple):
    key: str
    expected: Expected
    scheduled: bool = False


class RequestOutcome(StrEnum):
    """The client's knowledge after its request."""

    ACCEPTED = "accepted"
    """202, 201, or a record that Kafka acknowledged. The request must never be lost."""
    REFUSED = "refused"
    """An error code that promises that nothing was accepted. Nothing of it may ever appear."""
    UNKNOWN = "unknown"
    """No answer, or an error code that leaves it open. The request must have no effect, or its
    complete effect once."""


class Channel(StrEnum):
    JSON = "json"
    CSV = "csv"
    TOPIC = "topic"


@dataclass(slots=True)
class Submission:
    """One import. A request on the topic may be sent several times.

    The key of its first row is unique among all submissions.
    """

    workspace: Workspace
    channel: Channel
    rows: list[Row]
    outcome: RequestOutcome = RequestOutcome.UNKNOWN
    job_id: str | None = None
    answer: str = ""
    reused: RequestOutcome | None = None
    """The outcome of a second body with the same request id, which has only the first row. None if
    there was none."""
    parent_id: str | None = None
    """The job whose failed rows this import sends again. Its first key may also be the parent's."""
    is_canceled: bool = False
    """True if a client sent a cancellation: then each valid row may have failed with `canceled`."""
    on_existing: OnExisting = OnExisting.REPORT
    named_jobs: set[str] = field(default_factory=set)
    """Every job id that an answer to this import has named. More than one is an error."""

    @property
    def marker(self) -> str:
        return self.rows[0].key


@dataclass(slots=True)
class SinglePin:
    """One POST /v1/pins.

    The answer has the pin's id, and says whether this request created the pin. All times are on the
    run's clock.
    """

    workspace: Workspace
    key: str
    outcome: RequestOutcome = RequestOutcome.UNKNOWN
    pin_id: str | None = None
    was_created: bool = False
    sent_at: float = 0.0
    answered_at: float = 0.0


class Counters(NamedTuple):
    """The status and the counters of a job in one answer."""

    status: str
    total: int
    processed: int
    created: int
    existing: int
    failed: int


class Poll(NamedTuple):
    """Consecutive polls of a job with equal answers.

    `sent_at` is the time of the last request, `answered_at` that of the first answer.
    """

    counters: Counters
    sent_at: float = 0.0
    answered_at: float = 0.0


class Absence(NamedTuple):
    """A poll of an accepted job that was answered with 404."""

    job_id: str
    answer: str
    sent_at: float
    answered_at: float


class Result(NamedTuple):
    """One row's result in the API.

    `pin` is the pin's id. For a row with only a schedule it is the pin that it will publish.
    """

    row_number: int
    status: str
    pin: str | None
    key: str | None
    error_code: str | None
    is_schedule: bool = False
    existing_state: str | None = None
    updated: bool = False


class Contradiction(NamedTuple):
    """A row that had different results in two polls of a job."""

    job_id: str
    earlier: Result
    later: Result


class ForgottenRequest(NamedTuple):
    """The job of a request id that a restore has lost.

    `ended` is true if the job had a result for each row.
    """

    job_id: str
    ended: bool


@dataclass(slots=True)
class Restore:
    """A replacement of Postgres with an older copy of itself.

    The lost data is read from the server before and after, while no service is connected.
    """

    copied_at: float
    """The start of the copy."""
    replaced_at: float
    """The time when all clients were disconnected from the replaced server. Later requests are not
    answered from its data."""
    forgotten_pins: set[Key]
    """Keys of direct pins that are not in the copy."""
    forgotten_requests: dict[Key, ForgottenRequest]
    """Request ids that are not in the copy."""
    stranded_requests: set[str] = field(default_factory=set)
    """Request ids that were committed, but are pending in the copy. Nobody sends them again."""
    recovered_at: float = math.inf
    """The time when every consumer was back at the position that it had before the restore."""

    def may_have_lost(self, pin: SinglePin) -> bool:
        """Returns whether the pin may have been created between the copy and the restore."""
        in_time = pin.sent_at < self.replaced_at and pin.answered_at > self.copied_at
        return in_time and (pin.workspace, pin.key) in self.forgotten_pins


class Timing(StrEnum):
    """When a row of a campaign is to be published."""

    NOW = "now"
    SOON = "soon"
    """Within seconds: the pin may be scheduled or published at any later moment."""
    FAR = "far"
    """Long after the run."""


class SteeredRow(NamedTuple):
    """A row of a campaign as it was sent."""

    key: str
    expected: Expected
    title: str
    timing: Timing = Timing.NOW
    is_shared: bool = False
    """True if other clients use the key too: then the model does not follow it."""


@dataclass(slots=True)
class ImportStep:
    """An import that was sent until it was accepted, and polled until it ended."""

    submission: Submission
    rows: list[SteeredRow]


@dataclass(slots=True)
class DryRunStep:
    """A dry run and the answered results."""

    rows: list[SteeredRow]
    on_existing: OnExisting
    checked_at: datetime
    results: list[Result]


class CancelAnswer(NamedTuple):
    """The schedules of a cancellation's answer, by row number, and the counters."""

    counters: Counters
    canceled_rows: int
    canceled: frozenset[int]
    left: tuple[tuple[int, str], ...]
    """The row numbers and the reasons."""


@dataclass(slots=True)
class CancelStep:
    """A cancellation that was sent until it was answered, perhaps several times."""

    job_id: str
    with_schedules: bool
    answers: list[CancelAnswer] = field(default_factory=list)


class UndoAnswer(NamedTuple):
    """The record of an undo."""

    undo_id: str
    undone_at: datetime
    undone: tuple[tuple[int, str], ...]
    """The row numbers and the actions."""
    left: tuple[tuple[int, str], ...]
    """The row numbers and the reasons."""


@dataclass(slots=True)
class UndoStep:
    """An undo that was sent until it was answered, perhaps twice at once."""

    job_id: str
    answers: list[UndoAnswer] = field(default_factory=list)
    answered_at: datetime | None = None
    """The time of the last answer."""


class TouchKind(StrEnum):
    EDIT = "edit"
    CANCEL = "cancel"
    DELETE = "delete"


@dataclass(slots=True)
class TouchStep:
    """A direct call that changes one pin. It was sent until it was answered."""

    kind: TouchKind
    key: str
    sent_at: datetime
    answered_at: datetime
    title: str | None = None
    """The new title of an edit."""


@dataclass(slots=True)
class RaceStep:
    """An undo and an edit of one of its schedules at once. Exactly one of them wins."""

    undo: UndoStep
    edit: TouchStep
    was_edited: bool


Step = ImportStep | DryRunStep | CancelStep | UndoStep | TouchStep | RaceStep


@dataclass(slots=True)
class Campaign:
    """One client's imports and commands, one after the other, with keys of its own.

    Each step is answered before the next begins. So the steps say what every key must have.
    """

    workspace: Workspace
    workspace_id: UUID
    steps: list[Step] = field(default_factory=list)
    is_broken: bool = False
    """True if a step was never answered. That is a violation, and its keys may have anything."""

    def undos(self) -> Iterator[UndoStep]:
        for step in self.steps:
            if isinstance(step, UndoStep):
                yield step
            elif isinstance(step, RaceStep):
                yield step.undo


class Fault(NamedTuple):
    """One fault. Its times are in seconds since the nemesis started."""

    kind: str
    began: float
    ended: float
    recovery_seconds: float
    """Seconds from the fault's end until the whole pipeline worked again."""


@dataclass
class History:
    seed: int
    submissions: list[Submission] = field(default_factory=list)
    pins: list[SinglePin] = field(default_factory=list)
    polls: dict[str, list[Poll]] = field(default_factory=lambda: defaultdict(list))
    """The polls of each job, in their order. Consecutive equal answers are one entry."""
    absences: list[Absence] = field(default_factory=list)
    results: dict[str, dict[int, Result]] = field(default_factory=lambda: defaultdict(dict))
    """The first known result of each row, by job id and row number."""
    contradictions: list[Contradiction] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)
    unexpected_answers: list[str] = field(default_factory=list)
    """Answers that no client should ever get, for instance a status 500."""
    campaigns: list[Campaign] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(submission.rows) for submission in self.submissions)

    def record_poll(
        self, job_id: str, counters: Counters, sent_at: float = 0.0, answered_at: float = 0.0
    ) -> bool:
        """Records a poll. Returns whether its answer differs from the previous one."""
        polls = self.polls[job_id]
        if polls and polls[-1].counters == counters:
            polls[-1] = polls[-1]._replace(sent_at=sent_at)
            return False
        polls.append(Poll(counters, sent_at, answered_at))
        return True

    def record_results(self, job_id: str, results: Iterable[Result]) -> None:
        """Records the results of a poll, and contradictions to earlier polls."""
        first_results = self.results[job_id]
        for result in results:
            earlier = first_results.setdefault(result.row_number, result)
            if earlier != result:
                self.contradictions.append(Contradiction(job_id, earlier, result))
