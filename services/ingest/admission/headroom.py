"""Extends a limit for workspaces that have nothing under it yet."""

HEADROOM_SHARE = 0.1
"""Share of a limit that is added for a workspace that has no unsettled rows, or no waiting imports.
Otherwise workspaces that flood Pinflow could block a new one.
"""


def add_headroom(limit: int) -> int:
    """Returns the limit for a workspace that takes up none of it yet."""
    return int(limit * (1 + HEADROOM_SHARE))
