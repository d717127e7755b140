"""The type of clocks. Tests replace the clock of a component."""

from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns the time in seconds, for example `time.monotonic`."""
