"""Defines what became of a pin's removal from Pinterest. No I/O."""

from typing import NamedTuple


class RemovalOutcome(NamedTuple):
    """The outcome of a removal that was carried out."""

    outcome: str
    """`removed` or `refused`."""
    error_message: str | None
    """Pinterest's reason if it refused, otherwise None."""
