"""Judges a run by the simulator's own log of pins. No I/O.

Pinflow's tables say only what Pinflow believes: a pin counts as doubled if Pinterest has more pins
of its content than Pinflow can account for.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.tools.chaos.deliveries.plan import Group, PlannedPin

PUBLISHED, FAILED = "published", "failed"
UNCONFIRMED = "publish_unconfirmed"
MAX_SHOWN = 20


@dataclass
class Verdict:
    """Counts what became of the planned pins."""

    planned: int = 0
    made: int = 0
    """Pins that the simulator made."""
    published: int = 0
    unconfirmed: list[str] = field(default_factory=list)
    """Pins that nobody can tell about, with the reason that Pinflow gives."""
    failed: Counter[str] = field(default_factory=Counter)
    doubled: list[str] = field(default_factory=list)
    """Pins on Pinterest beyond those that are published or unconfirmed."""
    lost: list[str] = field(default_factory=list)
    """Publications that are not stored, have not ended, or whose pin is not on Pinterest."""
    adopted_twice: list[str] = field(default_factory=list)
    """Ids of Pinterest that two publications have."""
    attempts: Counter[str] = field(default_factory=Counter)
    """The attempts by outcome."""

    @property
    def is_clean(self) -> bool:
        return not (self.doubled or self.lost or self.adopted_twice)

    def describe(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "made": self.made,
            "published": self.published,
            "unconfirmed": len(self.unconfirmed),
            "unconfirmed_because": self.unconfirmed[:MAX_SHOWN],
            "failed": dict(self.failed),
            "attempts": dict(self.attempts),
            "doubled": len(self.doubled),
            "lost": len(self.lost),
            "adopted_twice": len(self.adopted_twice),
            "examples": [*self.doubled, *self.lost, *self.adopted_twice][:MAX_SHOWN],
        }


def judge(
    planned: Sequence[PlannedPin],
    log: Iterable[Mapping[str, Any]],
    stored: Mapping[tuple[int, str], Mapping[str, Any]],
    attempts: Mapping[str, int],
) -> Verdict:
    """Compares the simulator's log with the stored pins, which are by workspace and key."""
    verdict = Verdict(planned=len(planned), attempts=Counter(attempts))
    made: Counter[Group] = Counter()
    groups_by_id: dict[str, Group] = {}
    for entry in log:
        group = Group(entry["board_id"], entry["title"], entry["link"])
        made[group] += 1
        groups_by_id[entry["id"]] = group
    verdict.made = made.total()
    members: dict[Group, list[PlannedPin]] = defaultdict(list)
    for pin in planned:
        members[pin.group].append(pin)
    owners: dict[str, str] = {}
    for group, pins in members.items():
        _judge_group(verdict, group, pins, made[group], stored, groups_by_id, owners)
    unknown = sum(count for group, count in made.items() if group not in members)
    if unknown:
        verdict.doubled.append(f"{unknown} pins on Pinterest were never planned")
    return verdict


def _judge_group(
    verdict: Verdict,
    group: Group,
    pins: Sequence[PlannedPin],
    made: int,
    stored: Mapping[tuple[int, str], Mapping[str, Any]],
    groups_by_id: Mapping[str, Group],
    owners: dict[str, str],
) -> None:
    published = 0
    unconfirmed: list[str] = []
    for pin in pins:
        row = stored.get((pin.workspace, pin.key))
        state = None if row is None else row["state"]
        if row is None or state not in {PUBLISHED, FAILED}:
            verdict.lost.append(f"{pin.key}: {state or 'not stored'}")
        elif state == PUBLISHED:
            published += 1
            _judge_id(verdict, pin, row["pinterest_pin_id"], groups_by_id, owners)
        elif row["error_code"] == UNCONFIRMED:
            unconfirmed.append(f"{pin.key}: {row['error_message']}")
        else:
            verdict.failed[row["error_code"]] += 1
    verdict.published += published
    verdict.unconfirmed.extend(unconfirmed)
    if made > published + len(unconfirmed):
        verdict.doubled.append(
            f"{group.title}: {made} on Pinterest, {published} published, "
            f"{len(unconfirmed)} unconfirmed"
        )


def _judge_id(
    verdict: Verdict,
    pin: PlannedPin,
    pinterest_pin_id: str,
    groups_by_id: Mapping[str, Group],
    owners: dict[str, str],
) -> None:
    if groups_by_id.get(pinterest_pin_id) != pin.group:
        verdict.lost.append(f"{pin.key}: its pin {pinterest_pin_id} is not on Pinterest")
    other = owners.setdefault(pinterest_pin_id, pin.key)
    if other != pin.key:
        verdict.adopted_twice.append(f"{pinterest_pin_id}: {other} and {pin.key}")
