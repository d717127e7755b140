"""Marks a pin's link with the id of the attempt that sends it, and finds the mark. No I/O."""

from uuid import UUID

MARK = "pinflow="


def mark_link(link: str | None, attempt_id: UUID) -> str | None:
    """Adds the attempt's id to the link's fragment. A pin without a link has no mark."""
    if not link:
        return link
    separator = "&" if "#" in link else "#"
    return f"{link}{separator}{MARK}{attempt_id.hex}"


def has_mark(link: str | None, attempt_id: UUID) -> bool:
    """Returns whether a link has the mark of this attempt."""
    mark = f"{MARK}{attempt_id.hex}"
    return any(part.strip() == mark for part in _fragment(link).split("&"))


def remove_fragment(link: str) -> str:
    return link.partition("#")[0]


def _fragment(link: str | None) -> str:
    return (link or "").partition("#")[2]
