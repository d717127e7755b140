"""Decides which of Pinterest's boards are stored, and which board a lost answer was about."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from shared.contract.pins import make_printable
from shared.contract.pinterest_ids import is_pinterest_id

PRIVACIES = ("PUBLIC", "PROTECTED", "SECRET")
PUBLISHING_SCOPES = ("boards:read", "boards:write", "pins:read", "pins:write")
"""The rights that Pinterest requires for the creation of a pin."""
SECRET_SCOPES = ("boards:read_secret", "boards:write_secret")
"""The rights that Pinterest requires for secret boards."""
MAX_ID_DIGITS = 32
MAX_TEXT_LENGTH = 2000
"""Maximum characters of a stored name or description. Pinterest documents no limits."""
CLOCK_DIFFERENCE = timedelta(minutes=1)
"""Maximum time that Pinterest's clock, which reports whole seconds, may be behind Postgres'."""


class PinterestBoard(NamedTuple):
    """A board as Pinterest has it."""

    board_id: str
    name: str
    description: str | None
    privacy: str
    created_at: datetime | None
    """Null if Pinterest does not report it."""

    def values(self) -> dict[str, Any]:
        """Returns the columns that the store has."""
        return {"name": self.name, "description": self.description, "privacy": self.privacy}


class BoardSelection(NamedTuple):
    """The boards of one list that can be stored, and what was left out."""

    boards: list[PinterestBoard]
    invalid: list[str]
    """The ids of boards that can't be used, made printable."""
    beyond_limit: int
    """Number of boards above the maximum of an account."""


def is_pinterest_board_id(value: object) -> bool:
    """Returns whether a value of an answer is usable as the id of a board."""
    return isinstance(value, str) and len(value) <= MAX_ID_DIGITS and is_pinterest_id(value)


def parse_board(item: Any) -> PinterestBoard | None:
    """Reads a board of an answer. Returns None if it has no valid id."""
    if not isinstance(item, dict) or not is_pinterest_board_id(item.get("id")):
        return None
    name, description, privacy = (item.get(key) for key in ("name", "description", "privacy"))
    return PinterestBoard(
        board_id=item["id"],
        name=_storable(name) or item["id"],
        description=_storable(description) or None,
        privacy=privacy if privacy in PRIVACIES else "PUBLIC",
        created_at=_parse_time(item.get("created_at")),
    )


def select_boards(items: Iterable[Any], *, limit: int) -> BoardSelection:
    """Selects the boards of a complete list that are stored.

    A board that stands on two pages, because the list changed meanwhile, counts once. Beyond
    `limit` the oldest boards are taken: ids grow, so the order of the list does not matter.
    """
    boards: dict[str, PinterestBoard] = {}
    invalid: list[str] = []
    for item in items:
        if board := parse_board(item):
            boards[board.board_id] = board
        else:
            invalid.append(make_printable(item.get("id") if isinstance(item, dict) else item, 50))
    ordered = sorted(boards.values(), key=lambda board: (len(board.board_id), board.board_id))
    return BoardSelection(ordered[:limit], invalid, max(0, len(ordered) - limit))


def find_created(
    boards: Iterable[PinterestBoard],
    *,
    name: str,
    started_at: datetime,
    other_ids: Collection[str],
) -> PinterestBoard | None:
    """Finds the board that a call made, whose answer was lost. Returns None if there is none.

    `other_ids` are boards that were known before the call, or that other calls made. Of several
    boards with the name, the first that was created is taken.
    """
    earliest = started_at - CLOCK_DIFFERENCE
    candidates = [
        board
        for board in boards
        if board.name.strip() == _storable(name).strip()
        and board.board_id not in other_ids
        and (board.created_at is None or board.created_at >= earliest)
    ]
    return min(
        candidates,
        key=lambda board: (board.created_at or earliest, len(board.board_id), board.board_id),
        default=None,
    )


def find_missing_scopes(scopes: Collection[str]) -> list[str]:
    """Returns the rights that the account lacks to publish a pin."""
    return [scope for scope in PUBLISHING_SCOPES if scope not in scopes]


def find_missing_secret_scopes(scopes: Collection[str]) -> list[str]:
    """Returns the rights that the account lacks to make a board secret."""
    return [scope for scope in SECRET_SCOPES if scope not in scopes]


def _storable(value: object) -> str:
    return make_printable(value, MAX_TEXT_LENGTH) if isinstance(value, str) else ""


def _parse_time(value: object) -> datetime | None:
    # Pinterest has sent times without a zone: UTC is assumed
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
