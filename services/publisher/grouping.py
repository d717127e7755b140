"""Groups the changes of pins for UPDATE statements. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID


def group_by_change(
    changes: Mapping[UUID, dict[str, Any]],
) -> Iterable[tuple[dict[str, Any], list[UUID]]]:
    """Groups pins by their change: each group needs one UPDATE. Usually there is one group."""
    groups: dict[tuple[Any, ...], list[UUID]] = defaultdict(list)
    for pin_id, change in changes.items():
        groups[tuple(change.items())].append(pin_id)
    return ((dict(change), ids) for change, ids in groups.items())
