"""Describes what is lost, what heals by itself and what to do next. Does no I/O."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from deploy.cli.recovery.comparison import Comparison, State, unaccepted
from deploy.cli.recovery.selection import Service
from shared.contract.topics import TopicName

_DECIDED_ANEW = "The publisher goes on by itself. Rows whose results were lost are decided anew."
_CONSEQUENCES = {
    (Service.PUBLISHER, TopicName.IMPORTS): "Rows that were lost are not published.",
    (Service.PUBLISHER, TopicName.OUTCOMES): _DECIDED_ANEW,
    (Service.STATUS, TopicName.IMPORTS): "Jobs that were lost are unknown: their GET answers 404.",
    (Service.STATUS, TopicName.OUTCOMES): "Jobs whose results were lost stay unfinished.",
    (Service.WEBHOOKS, TopicName.PIN_EVENTS): "Webhooks are not told of pins that were lost.",
    (Service.WEBHOOKS, TopicName.JOB_EVENTS): "Webhooks are not told of jobs that were lost.",
}
_WHAT = {
    State.BEHIND: "Postgres is older than Kafka. {records} of {topic} in {partitions} are {again}.",
    State.LOST: "Kafka deleted {records} of {topic} in {partitions} unprocessed. {consequence}",
    State.AHEAD: (
        "Kafka is older than Postgres: {records} of {topic} in {partitions} were processed, and "
        "Kafka no longer has them. Their work stays. Others, not processed yet, may be lost. "
        "{consequence}"
    ),
    State.FOREIGN: (
        "The positions in {partitions} of {topic} belong to another Kafka cluster. Records that "
        "only that cluster has are lost. {consequence}"
    ),
}
ACCEPT = "Nothing is processed there until you accept the loss: pinflow recover --accept"
MEANING = "Each service then reads again all that Kafka has in them. Nothing is published twice."
LATER = (
    "When all is read, settle the rows that Kafka lost as failed: pinflow recover --fail-lost. "
    "Their files must be submitted again; rows that were published become existing."
)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Accepted jobs that have rows without a result, oldest first."""

    rows: int
    job_ids: Sequence[UUID]
    without_import: int = 0
    """Jobs that status knows only from results, because their import is not there (yet)."""

    def document(self) -> dict[str, Any]:
        """Returns the jobs for JSON."""
        return {
            "jobs": len(self.job_ids),
            "rows": self.rows,
            "without_import": self.without_import,
            "job_ids": [str(job_id) for job_id in self.job_ids],
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """All positions beside Kafka's log."""

    cluster_id: str
    comparisons: Sequence[Comparison]
    seeded: Collection[Service] = field(default_factory=frozenset)
    """Services that take over their group's committed offsets at their first start."""

    @property
    def is_empty(self) -> bool:
        """Whether no service has ever worked here."""
        return not self.seeded and all(_is_untouched(comparison) for comparison in self.comparisons)


def _is_untouched(comparison: Comparison) -> bool:
    is_committed = comparison.log is not None and comparison.log.committed
    return comparison.state is State.NEW and not comparison.records and not is_committed


def summarize(survey: Survey, comparisons: Sequence[Comparison]) -> list[str]:
    """Describes the selected comparisons of a survey, and the next step."""
    if survey.is_empty:
        return ["There is nothing to recover: no service has stored a position yet."]
    sentences = [
        *_states(comparisons),
        *_lost_twice(comparisons),
        *_new_positions(survey, comparisons),
    ]
    waiting = unaccepted(comparisons)
    if waiting:
        sentences += [ACCEPT, MEANING, LATER]
    else:
        sentences.append(f"Nothing must be accepted: {_partitions(len(comparisons))} looked at.")
    if others := len(unaccepted(survey.comparisons)) - len(waiting):
        sentences.append(f"{_partitions(others)} that the options leave out must be accepted.")
    return sentences


def _states(comparisons: Iterable[Comparison]) -> list[str]:
    groups: dict[tuple[State, Service, TopicName], list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.state in _WHAT:
            groups[comparison.state, comparison.service, comparison.topic].append(comparison)
    return [
        f"{service}: "
        + _WHAT[state].format(
            records=_records(group),
            topic=group[0].topic_name,
            partitions=_partitions(len(group)),
            consequence=_CONSEQUENCES[service, topic],
            again="processed again: this heals by itself",
        )
        for (state, service, topic), group in groups.items()
    ]


def _lost_twice(comparisons: Iterable[Comparison]) -> list[str]:
    """Describes records that neither Kafka nor this Postgres has: both are older copies."""
    return [
        f"{cut.service}: Kafka lost at least {cut.committed_beyond_end} of the last records of "
        f"{cut.topic_name}/{cut.partition}, which had been processed. This Postgres does not have "
        "them either, so they are lost."
        for cut in comparisons
        if cut.committed_beyond_end and cut.stored and cut.stored.next_offset <= cut.log_end
    ]


def _new_positions(survey: Survey, comparisons: Iterable[Comparison]) -> list[str]:
    groups: dict[Service, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.state is State.NEW:
            groups[comparison.service].append(comparison)
    seeded = survey.seeded
    return [_new(service, group, is_seeded=service in seeded) for service, group in groups.items()]


def _new(service: Service, group: Sequence[Comparison], *, is_seeded: bool) -> str:
    begin = f"{service} has no position yet in {_partitions(len(group))}."
    if is_seeded:
        return f"{begin} At its start it takes over the offsets that its group has committed."
    return f"{begin} At its start it reads all that Kafka has there: {_records(group)}."


def _records(group: Sequence[Comparison]) -> str:
    known = [comparison.records for comparison in group if comparison.records is not None]
    if not known:
        return "an unknown number of records"
    total = sum(known)
    bound = "" if len(known) == len(group) else "at least "
    return f"{bound}{total} record{'' if total == 1 else 's'}"


def _partitions(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"
