"""Names the type of a query's row, for rules that read rows and do no I/O."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
"""Maps columns to values."""
