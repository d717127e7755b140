"""Describes for an operator what is lost, what recovers automatically and what to do next.

Does no I/O.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from deploy.cli.counts import choose_verb, number_of
from deploy.cli.recovery.comparison import Comparison, PositionState, find_unaccepted
from deploy.cli.recovery.positions import PositionOwner
from shared.contract.topics import TopicName

_CONSEQUENCES = {
    (PositionOwner.PUBLISHER, TopicName.IMPORTS): "The lost rows are not published.",
    (PositionOwner.PUBLISHER, TopicName.OUTCOMES): (
        "The publisher continues automatically. It decides rows again if their results are lost."
    ),
    (PositionOwner.PUBLISHER, TopicName.DELIVERIES): (
        "Nothing is sent to Pinterest until you accept the loss. Then queued pins that may have "
        "been sent meanwhile are looked for on Pinterest first."
    ),
    (PositionOwner.STATUS, TopicName.IMPORTS): (
        "Status does not know the lost jobs: their GET answers 404."
    ),
    (PositionOwner.STATUS, TopicName.OUTCOMES): "Jobs with lost results stay unfinished.",
    (PositionOwner.WEBHOOKS, TopicName.PIN_EVENTS): (
        "No webhook is sent for pins whose event is lost."
    ),
    (PositionOwner.WEBHOOKS, TopicName.JOB_EVENTS): (
        "No webhook is sent for jobs whose event is lost."
    ),
}
_EXPLANATIONS = {
    PositionState.BEHIND: (
        "Postgres is older than Kafka. {records} of {topic} in {partitions} are processed again. "
        "You need not do anything."
    ),
    PositionState.LOST: (
        "Kafka deleted {records} of {topic} in {partitions} before they were processed. "
        "{consequence}"
    ),
    PositionState.AHEAD: (
        "Kafka is older than Postgres: {records} of {topic} in {partitions} were processed, and "
        "Kafka no longer has them. Their results are kept. Other records that were not processed "
        "yet may be lost. {consequence}"
    ),
    PositionState.FOREIGN: (
        "The positions in {partitions} of {topic} belong to another Kafka cluster. Records that "
        "only that cluster has are lost. {consequence}"
    ),
}
ACCEPT_ADVICE = (
    "Services do not read these partitions until you accept the loss: pinflow recover --accept"
)
ACCEPT_EFFECT = (
    "Each service then reads again everything that Kafka has in them. Nothing is published twice."
)
NEXT_STEP = (
    "When the services have read everything, settle the rows that Kafka lost: pinflow recover "
    "--fail-lost. Then submit their files again. Rows that were published before are reported as "
    "existing."
)


@dataclass(frozen=True, slots=True)
class UnfinishedJobs:
    """Accepted jobs that have rows without a result, oldest first."""

    rows: int
    job_ids: Sequence[UUID]
    without_import: int = 0
    """The number of jobs that have results but no import: status has not read it yet, or Kafka lost
    it."""

    def document(self) -> dict[str, Any]:
        """Returns the jobs for JSON."""
        return {
            "jobs": len(self.job_ids),
            "rows": self.rows,
            "without_import": self.without_import,
            "job_ids": [str(job_id) for job_id in self.job_ids],
        }


class LostPin(NamedTuple):
    """A pin that is on Pinterest, and that Postgres lost in a restore."""

    pinterest_pin_id: str
    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    board_id: str
    title: str

    def document(self) -> dict[str, str]:
        """Returns the pin for tables and JSON."""
        return {name: str(value) for name, value in self._asdict().items()}


@dataclass(frozen=True, slots=True)
class Survey:
    """All stored positions, each compared with Kafka's log."""

    cluster_id: str
    comparisons: Sequence[Comparison]
    seeded: Collection[PositionOwner] = field(default_factory=frozenset)
    """Services that will take over their group's committed offsets at their first start."""
    lost_pins: Sequence[LostPin] = ()

    @property
    def is_empty(self) -> bool:
        """True if no service of this installation has processed a record."""
        return not self.seeded and all(_is_untouched(comparison) for comparison in self.comparisons)


def _is_untouched(comparison: Comparison) -> bool:
    is_committed = comparison.log is not None and comparison.log.committed
    return comparison.state is PositionState.NEW and not comparison.records and not is_committed


def summarize(survey: Survey, comparisons: Sequence[Comparison]) -> list[str]:
    """Describes the selected comparisons of a survey, and the next step."""
    if survey.is_empty:
        return ["There is nothing to recover: no service has stored a position yet."]
    sentences = [
        *_describe_states(comparisons),
        *_describe_records_lost_everywhere(comparisons),
        *_describe_new_positions(survey, comparisons),
    ]
    unaccepted = find_unaccepted(comparisons)
    if unaccepted:
        sentences += [ACCEPT_ADVICE, ACCEPT_EFFECT, NEXT_STEP]
    else:
        sentences.append(
            f"{_count_partitions(len(comparisons))} compared. There is no loss to accept."
        )
    if pins := len(survey.lost_pins):
        sentences.append(
            f"{number_of(pins, 'pin')} {choose_verb(pins, 'is', 'are')} on Pinterest, and Postgres "
            f"lost {choose_verb(pins, 'it', 'them')}: direct calls after the backup. Publish one "
            "again under its idempotency key, and it gets its id at Pinterest. Nothing is sent."
        )
    if hidden_losses := len(find_unaccepted(survey.comparisons)) - len(unaccepted):
        sentences.append(
            f"Your options leave out {_count_partitions(hidden_losses)} with a loss to accept. "
            "See them with: pinflow recover"
        )
    return sentences


def _describe_states(comparisons: Iterable[Comparison]) -> list[str]:
    groups: dict[tuple[PositionState, PositionOwner, TopicName], list[Comparison]] = defaultdict(
        list
    )
    for comparison in comparisons:
        if comparison.state in _EXPLANATIONS:
            groups[comparison.state, comparison.service, comparison.topic].append(comparison)
    return [
        f"{service}: "
        + _EXPLANATIONS[state].format(
            records=_count_records(group),
            topic=group[0].topic_name,
            partitions=_count_partitions(len(group)),
            consequence=_CONSEQUENCES[service, topic],
        )
        for (state, service, topic), group in groups.items()
    ]


def _describe_records_lost_everywhere(comparisons: Iterable[Comparison]) -> list[str]:
    """Describes records that neither Kafka nor this Postgres has: both are older copies."""
    return [
        f"{cut.service}: Kafka lost at least {cut.committed_beyond_end} of the last records of "
        f"{cut.topic_name}/{cut.partition}, which had been processed. This Postgres does not have "
        "their results either, so they are lost."
        for cut in comparisons
        if cut.committed_beyond_end and cut.stored and cut.stored.next_offset <= cut.log_end
    ]


def _describe_new_positions(survey: Survey, comparisons: Iterable[Comparison]) -> list[str]:
    groups: dict[PositionOwner, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.state is PositionState.NEW:
            groups[comparison.service].append(comparison)
    seeded = survey.seeded
    return [
        _describe_start(service, group, is_seeded=service in seeded)
        for service, group in groups.items()
    ]


def _describe_start(service: PositionOwner, group: Sequence[Comparison], *, is_seeded: bool) -> str:
    beginning = f"{service} has no position yet in {_count_partitions(len(group))}."
    if is_seeded:
        return f"{beginning} It will start at the offsets that its group has committed."
    return f"{beginning} It will read everything that Kafka has there: {_count_records(group)}."


def _count_records(group: Sequence[Comparison]) -> str:
    counts = [comparison.records for comparison in group if comparison.records is not None]
    if not counts:
        return "an unknown number of records"
    total = sum(counts)
    bound = "" if len(counts) == len(group) else "at least "
    return f"{bound}{total} record{'' if total == 1 else 's'}"


def _count_partitions(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"
