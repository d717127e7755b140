"""Stores the kills in a file, one JSON line each, so that a later run can continue."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.tools.chaos.kills.ledger import Findings


class Kind(StrEnum):
    """The victims: a single broker, one of three, a producer, or a broker with a full disk."""

    LONE = "lone"
    THREE = "three"
    PRODUCER = "producer"
    DISK = "disk"


@dataclass(slots=True)
class Kill:
    """One kill and the findings of the check after it."""

    kind: Kind
    number: int
    seed: int
    ms_after_acknowledgement: float | None = None
    """For producers: milliseconds after an import was about to be sent."""
    victim: str = ""
    acknowledged: int = 0
    unknown: int = 0
    unknown_stored: int = 0
    """The number of imports with an unknown outcome that are complete on the topic."""
    refused: int = 0
    partial: int = 0
    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    stalled: int = 0
    seconds_until_accepting: float | None = None
    """Seconds until every partition has accepted an import again."""
    details: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if the check found an error."""
        return any((self.partial, self.lost, self.duplicated, self.unexpected, self.stalled))

    def add_findings(self, findings: Findings, stalled: set[int]) -> None:
        """Adds the findings and the stalled partitions of a check."""
        self.partial += len(findings.partial)
        self.lost += len(findings.lost)
        self.unknown_stored += findings.unknown_stored
        self.duplicated += len(findings.duplicated)
        self.unexpected += len(findings.unexpected)
        self.stalled += len(stalled)
        self.details += findings.details()
        if stalled:
            self.details.append(f"partitions {sorted(stalled)} are stalled")


class Tally:
    """The kills of one kind in a file."""

    def __init__(self, file: Path, kind: Kind) -> None:
        self._file = file
        self.kills = [kill for kill in load([file]) if kill.kind is kind] if file.exists() else []

    def add(self, kill: Kill) -> None:
        """Appends a kill to the file."""
        self.kills.append(kill)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(kill)) + "\n")


def load(files: Iterable[Path]) -> list[Kill]:
    """Reads all kills of these files."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Kill(**(fields | {"kind": Kind(fields["kind"])})) for fields in map(json.loads, lines)]


COUNTERS = (
    "acknowledged",
    "unknown",
    "unknown_stored",
    "refused",
    "partial",
    "lost",
    "duplicated",
    "unexpected",
    "stalled",
)

MAX_DELAY_MS = 30
"""The report counts kills within this time, because a busy machine delays some of them."""


def report(kills: Iterable[Kill]) -> str:
    """Returns a table of the totals by kind, followed by the details of all failures."""
    by_kind: dict[Kind, list[Kill]] = defaultdict(list)
    for kill in kills:
        by_kind[kill.kind].append(kill)
    lines = [
        f"{'kind':10}{'kills':>7}"
        + "".join(f"{name:>17}" for name in COUNTERS)
        + f"  within {MAX_DELAY_MS} ms; s until accepting: median, longest"
    ]
    for kind, kills_of_kind in by_kind.items():
        sums = [sum(getattr(kill, name) for kill in kills_of_kind) for name in COUNTERS]
        pauses = sorted(
            kill.seconds_until_accepting
            for kill in kills_of_kind
            if kill.seconds_until_accepting is not None
        )
        within_delay = sum(
            kill.ms_after_acknowledgement is not None
            and kill.ms_after_acknowledgement <= MAX_DELAY_MS
            for kill in kills_of_kind
        )
        pause = f"; {pauses[len(pauses) // 2]:.1f}, {pauses[-1]:.1f}" if pauses else ""
        lines.append(
            f"{kind:10}{len(kills_of_kind):>7}"
            + "".join(f"{count:>17}" for count in sums)
            + f"  {within_delay}{pause}"
        )
    for kills_of_kind in by_kind.values():
        for kill in kills_of_kind:
            if kill.failed:
                lines += [
                    f"{kill.kind} {kill.number} (seed {kill.seed}): {detail}"
                    for detail in kill.details
                ]
    return "\n".join(lines)
