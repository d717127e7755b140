"""The final state of a run. observer.py reads it from the API, the database and the topics."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from tests.tools.chaos.history import Counters, Key, Result, Workspace


class Job(NamedTuple):
    """A job and its results in the API."""

    workspace: Workspace
    counters: Counters
    completed: bool
    results: list[Result]
    accepted_at: datetime = datetime.min.replace(tzinfo=UTC)
    parent_id: str | None = None


class Pin(NamedTuple):
    """A pin in the database.

    `job_id` and `row_number` name the row that created it. Both are None for a direct call.
    """

    pin_id: str
    job_id: str | None
    row_number: int | None
    state: str
    scheduled: bool
    generation: int = 0
    deleted: bool = False
    title: str = ""
    is_far: bool = False
    """True if its time is long after the run."""
    released: bool = False
    """True if the key was released. Only the first pin of a key has this and the next fields."""
    current: str | None = None
    """The pin that took the key after it was released."""
    highest: int = 0
    """The highest generation of the key."""


class Announcement(NamedTuple):
    """An event on a topic, without its time. A job's event has neither key nor origin."""

    content: bytes
    """The hash of the event without its time."""
    key: Key | None = None
    origin: tuple[str | None, int | None] = (None, None)


@dataclass
class FinalState:
    """The jobs in the API, the rows in the database and the events on the topics."""

    jobs: dict[str, Job] = field(default_factory=dict)
    stored_jobs: dict[str, Counters] = field(default_factory=dict)
    """The counters in the database by job id, also of jobs that the API does not show."""
    stored_results: dict[str, Counter[str]] = field(default_factory=dict)
    """The number of results in the database by job id and status."""
    pins: dict[Key, list[Pin]] = field(default_factory=lambda: defaultdict(list))
    published: Counter[str] = field(default_factory=Counter)
    """The number of PinPublished events by pin id."""
    scheduled: Counter[str] = field(default_factory=Counter)
    """The number of events of scheduled pins by pin id."""
    job_events: dict[str, list[Counters]] = field(default_factory=lambda: defaultdict(list))
    announcements: dict[str, list[Announcement]] = field(default_factory=dict)
    """The distinct events by event id. Usually an id has one."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """The number of dead letters by error code."""

    def announce(self, event_id: str, announcement: Announcement) -> None:
        """Adds an event of a topic, unless an equal one was added before."""
        announcements = self.announcements.setdefault(event_id, [])
        if announcement not in announcements:
            announcements.append(announcement)
