"""The broken promises that a check finds."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Effect(StrEnum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    WRONG = "wrong"


class Violation(NamedTuple):
    """A broken promise. `rule` is an invariant of docs/explanation/architecture.md or a keyword."""

    rule: str
    what: str
    effect: Effect = Effect.WRONG

    def __str__(self) -> str:
        return f"{self.effect}, {self.rule}: {self.what}"


Violations = Iterator[Violation]
