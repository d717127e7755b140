"""Compares the pins that Pinterest lists on a board with an attempt whose answer was lost. No I/O.

A listed pin is one of these:

- *impossible*: made outside of the attempt's window, or its id already belongs to a pin of Pinflow.
- *equal*: title, description, alt text and link are equal, apart from white space at the ends and
  the spelling of the URL. An empty text equals a missing one.
- *another's*: equal to another attempt without an answer, whose window it also lies in.
- *similar*: at least one text is equal if case, white space, HTML escapes, the form of Unicode, and
  the link's fragment and final slash do not count; or it has no text at all. Pinterest may show a
  page's title for the pin's, or rewrite a link. So it might be the pin, and is never adopted.

One equal pin is the pin. Several can't be told apart. A similar pin prevents that the attempt
counts as absent, unless an equal pin is found. With a link mark, only the marked pin is equal.
"""

import html
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from services.publisher.delivery.attempts.link_mark import has_mark, remove_fragment
from services.publisher.delivery.model import ComparedTexts, DeliveryAttempt
from shared.contract.urls import normalize_url

SLACK = timedelta(seconds=60)
"""Pinterest's clock may differ, and it shows whole seconds."""


class ListedPin(NamedTuple):
    """A pin as Pinterest lists it."""

    pinterest_pin_id: str | None
    """None if the list has no usable id."""
    created_at: datetime | None
    """None if the time can't be read. Then the pin may be of any time."""
    texts: ComparedTexts


class ListedBoard(NamedTuple):
    """The pins of a board, as far as they were read."""

    pins: Sequence[ListedPin]
    is_complete: bool
    """False if the board has more pages than one look reads."""


@dataclass(frozen=True, slots=True)
class Found:
    """The pin was found."""

    pinterest_pin_id: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """No pin on the board can be the attempt's."""


@dataclass(frozen=True, slots=True)
class Similar:
    """No pin is equal, but at least one is similar. A later look may find an equal one."""


@dataclass(frozen=True, slots=True)
class Undecidable:
    """No look can settle the attempt. `reason` completes "Pinterest's answer was lost, and …"."""

    reason: str


Match: TypeAlias = Found | NotFound | Similar | Undecidable


def read_listed_pin(item: Mapping[str, Any]) -> ListedPin:
    """Reads an item of Pinterest's list. Values of another type count as missing."""
    texts = (_read_text(item.get(name)) for name in ComparedTexts._fields)
    return ListedPin(
        _read_text(item.get("id")),
        _read_time(item.get("created_at")),
        ComparedTexts(next(texts) or "", *texts),
    )


def is_in_window(attempt: DeliveryAttempt, created_at: datetime) -> bool:
    """Returns whether a pin of this time can come from the attempt."""
    return attempt.started_at - SLACK <= created_at <= attempt.deadline_at + SLACK


def select_possible(attempt: DeliveryAttempt, pins: Iterable[ListedPin]) -> list[ListedPin]:
    """Selects the pins that can come from the attempt by their time, or by its mark."""
    return [
        pin
        for pin in pins
        if pin.created_at is None
        or is_in_window(attempt, pin.created_at)
        or has_mark(pin.texts.link, attempt.attempt_id)
    ]


def match(
    attempt: DeliveryAttempt,
    board: ListedBoard,
    known_ids: Collection[str],
    others: Sequence[DeliveryAttempt],
) -> Match:
    """Decides which of the board's pins is the attempt's.

    `known_ids` are ids that belong to pins of Pinflow. They must be read after the list. `others`
    are other attempts on the board which may have made a pin whose id is not known.
    """
    pins = [
        pin for pin in select_possible(attempt, board.pins) if pin.pinterest_pin_id not in known_ids
    ]
    equal = _select_equal(attempt, pins)
    ids = {pin.pinterest_pin_id for pin in equal if pin.pinterest_pin_id is not None}
    if len(ids) > 1:
        return Undecidable(f"{len(ids)} pins on the board can't be told from it")
    is_marked = has_mark(attempt.texts.link, attempt.attempt_id)
    if not board.is_complete and not (is_marked and ids):
        return Undecidable("the board's list is too long to find it")
    if any(_may_belong_to(other, equal) for other in others if other.pin_id != attempt.pin_id):
        return Undecidable("another pin with the same texts is not confirmed either")
    if ids:
        return Found(ids.pop())
    if any(_is_similar(attempt, pin, others) for pin in pins):
        return Similar()
    return NotFound()


def _select_equal(attempt: DeliveryAttempt, pins: Iterable[ListedPin]) -> list[ListedPin]:
    if has_mark(attempt.texts.link, attempt.attempt_id):
        return [pin for pin in pins if has_mark(pin.texts.link, attempt.attempt_id)]
    return [pin for pin in pins if pin.created_at is not None and _is_equal(attempt, pin)]


def _is_equal(attempt: DeliveryAttempt, pin: ListedPin) -> bool:
    return _normalize(pin.texts) == _normalize(attempt.texts)


def _may_belong_to(other: DeliveryAttempt, pins: Iterable[ListedPin]) -> bool:
    """Returns whether one of the pins can come from another attempt."""
    return any(
        pin.created_at is not None and is_in_window(other, pin.created_at) and _is_equal(other, pin)
        for pin in pins
    )


def _is_similar(
    attempt: DeliveryAttempt, pin: ListedPin, others: Iterable[DeliveryAttempt]
) -> bool:
    if any(_may_belong_to(other, [pin]) for other in others):
        return False
    sent, listed = _simplify(attempt.texts), _simplify(pin.texts)
    shares_text = any(a and a == b for a, b in zip(sent, listed, strict=True))
    return shares_text or not any(listed)


def _normalize(texts: ComparedTexts) -> tuple[str, ...]:
    """Returns the texts in the form in which equal ones are identical."""
    *words, link = ((text or "").strip() for text in texts)
    return (*words, _normalize_link(link))


def _normalize_link(link: str) -> str:
    try:
        return normalize_url(link)
    except ValueError:
        return link


def _simplify(texts: ComparedTexts) -> tuple[str, ...]:
    """Returns the texts in the form in which similar ones are identical."""
    *words, link = (html.unescape(text or "") for text in texts)
    plain_link = _normalize_link(remove_fragment(link.strip())).rstrip("/")
    return (*(_simplify_words(text) for text in words), plain_link.casefold())


def _simplify_words(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _read_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _read_time(value: object) -> datetime | None:
    """Reads Pinterest's time. It has no zone and is in UTC."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
