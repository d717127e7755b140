"""Defines what became of a pin's removal from Pinterest. No I/O."""

from enum import StrEnum
from typing import NamedTuple


class RemovalOutcome(StrEnum):
    """Names what became of a removal. Null in the database: it is to be carried out."""

    REMOVED = "removed"
    """The pin is not on Pinterest any more."""
    REFUSED = "refused"
    """Pinterest keeps the pin."""


class SettledRemoval(NamedTuple):
    """A removal that was carried out."""

    outcome: RemovalOutcome
    error_message: str | None
    """Pinterest's reason if it refused, otherwise None."""
