"""Builds the texts of a pin as they are sent, and the digest of what is compared. No I/O."""

from hashlib import md5
from uuid import UUID

from services.publisher.delivery.attempts.link_mark import mark_link, remove_fragment
from services.publisher.delivery.model import ComparedTexts
from shared.contract.pin_fields import MAX_URL_LENGTH
from shared.postgres.row import Row


def build_texts(pin: Row, marked_by: UUID | None = None) -> ComparedTexts:
    """Returns the texts of a row of publisher.pins as they are sent.

    `marked_by`: the attempt whose mark the link gets. A link that would be too long gets none.
    """
    link = pin["link_url"]
    if marked_by is not None:
        marked = mark_link(link, marked_by)
        link = marked if marked is None or len(marked) <= MAX_URL_LENGTH else link
    return ComparedTexts(pin["title"], pin["description"], pin["alt_text"], link)


def digest(board_id: str, texts: ComparedTexts) -> UUID:
    """Digests a board and texts, so that pins which could be mistaken for each other are equal.

    While an attempt is unsettled, no pin with the same digest is sent. Case, white space and the
    link's fragment, which may have an attempt's mark, do not count: a digest that two different
    pins share only delays one of them for some minutes.
    """
    link = remove_fragment(texts.link or "").rstrip("/")
    parts = (board_id, texts.title, texts.description, texts.alt_text, link)
    plain = "\n".join(" ".join((part or "").split()).casefold() for part in parts)
    return UUID(bytes=md5(plain.encode(), usedforsecurity=False).digest())
