"""What stands when all is over, as the checker sees it. observer.py fills it from the API, the
database and the topics.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.tools.chaos.history import Counters, Key, Result, Workspace


class Job(NamedTuple):
    workspace: Workspace
    counters: Counters
    completed: bool
    results: list[Result]


class Pin(NamedTuple):
    """One row of the keyed store.

    `job_id` and `row_number` name the row that made it; a direct call has neither.
    """

    pin_id: str
    job_id: str | None
    row_number: int | None
    state: str
    scheduled: bool


class Announcement(NamedTuple):
    """What an event says but for the time at which it happened.

    A job's has neither key nor origin.
    """

    content: bytes
    """A hash of it."""
    key: Key | None = None
    origin: tuple[str | None, int | None] = (None, None)


@dataclass
class FinalState:
    jobs: dict[str, Job] = field(default_factory=dict)
    stored_jobs: dict[str, Counters] = field(default_factory=dict)
    """The jobs' counters in the database, those of invisible jobs too."""
    stored_results: dict[str, Counter[str]] = field(default_factory=dict)
    """By job: how many results the database has of each status."""
    pins: dict[Key, list[Pin]] = field(default_factory=lambda: defaultdict(list))
    published: Counter[str] = field(default_factory=Counter)
    """PinPublished events by pin id."""
    scheduled: Counter[str] = field(default_factory=Counter)
    job_events: dict[str, list[Counters]] = field(default_factory=lambda: defaultdict(list))
    announcements: dict[str, list[Announcement]] = field(default_factory=dict)
    """By the event's id: the different ones that bear it. One, as a rule."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """By code."""

    def announce(self, event_id: str, announcement: Announcement) -> None:
        """Adds an event that stands on a topic, unless an equal one is known."""
        known = self.announcements.setdefault(event_id, [])
        if announcement not in known:
            known.append(announcement)
