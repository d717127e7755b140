"""Values that the use cases and the SQL share."""

from enum import Enum, auto


class Missing(Enum):
    """Reasons why a workspace has no job with a given id."""

    UNKNOWN = auto()
    """No import with this id has been folded."""
    FOREIGN = auto()
    """The job belongs to another workspace."""
