"""The type of a query's row, for rules that do no I/O."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
"""Maps columns to values."""
