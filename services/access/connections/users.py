"""Reads who the user of a connection is. No I/O."""

from typing import Any

from services.access.connections.model import PinterestUser
from shared.contract.pins import make_printable
from shared.pinterest.failures import AnswerLost

USER_OPERATION = "user_account/get"
MAX_ID_LENGTH, MAX_NAME_LENGTH = 64, 255


def parse_user(document: Any) -> PinterestUser:
    """Reads the answer of GET /user_account. Raises AnswerLost if it names no user."""
    fields = document if isinstance(document, dict) else {}
    user_id, username = fields.get("id"), fields.get("username")
    if not (isinstance(user_id, str) and 0 < len(user_id) <= MAX_ID_LENGTH and user_id.isascii()):
        raise AnswerLost(USER_OPERATION, "the answer has no user's id")
    name = make_printable(username, MAX_NAME_LENGTH) if isinstance(username, str) else ""
    return PinterestUser(id=make_printable(user_id), username=name or user_id)
