"""Listed pins compared with an attempt whose answer was lost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from services.publisher.delivery.attempts.link_mark import has_mark, mark_link
from services.publisher.delivery.confirming.matching import (
    Found,
    ListedBoard,
    NotFound,
    Similar,
    Undecidable,
    match,
    read_listed_pin,
)
from services.publisher.delivery.model import ComparedTexts, DeliveryAttempt

START = datetime(2026, 9, 1, 12, 0, 0, 700_000, tzinfo=UTC)
TEXTS = ComparedTexts("Brass lamp", "A lamp & more", None, "https://example.com/lamp")


def attempt(**changes: Any) -> DeliveryAttempt:
    values: dict[str, Any] = {
        "attempt_id": uuid4(),
        "pin_id": uuid4(),
        "number": 1,
        "workspace_id": uuid4(),
        "account_id": uuid4(),
        "mode": "simulated",
        "fence": 1,
        "board_id": "101",
        "texts": TEXTS,
        "started_at": START,
        "deadline_at": START + timedelta(seconds=30),
    }
    return DeliveryAttempt(**{**values, **changes})


def listed(pin_id: str = "1", *, seconds: float = 1, **changes: Any) -> dict[str, Any]:
    """Builds a pin as Pinterest lists it, made some seconds after the attempt's start."""
    created_at = (START + timedelta(seconds=seconds)).replace(microsecond=0, tzinfo=None)
    item = {"id": pin_id, "created_at": created_at.isoformat(), **TEXTS._asdict()}
    return {**item, **changes}


def board(*items: dict[str, Any], is_complete: bool = True) -> ListedBoard:
    return ListedBoard([read_listed_pin(item) for item in items], is_complete)


def test_the_only_equal_pin_is_found() -> None:
    other = listed("2", title="Vase", description=None, link=None)
    assert match(attempt(), board(other, listed("1")), (), ()) == Found("1")


@pytest.mark.parametrize(
    "change",
    [
        {"title": " Brass lamp\n"},
        {"description": "A lamp & more \t"},
        {"alt_text": ""},
        {"alt_text": "  "},
        {"link": "HTTPS://EXAMPLE.com:443/lamp"},
    ],
    ids=str,
)
def test_white_space_and_spelling_do_not_hide_the_pin(change: dict[str, Any]) -> None:
    assert match(attempt(), board(listed(**change)), (), ()) == Found("1")


def test_a_missing_text_equals_an_empty_one() -> None:
    texts = ComparedTexts("Lamp", "", " ", None)
    pin = {"id": "1", "created_at": "2026-09-01T12:00:01", "title": "Lamp"}
    assert match(attempt(texts=texts), board(pin), (), ()) == Found("1")


@pytest.mark.parametrize(
    "change",
    [
        {"title": "The page's own title"},
        {"title": None, "description": None, "alt_text": None, "link": None},
        {"description": "A lamp &amp; more"},
        {"title": "BRASS  lamp", "description": None, "link": None},
        {"link": "https://example.com/lamp/#top", "title": "Another", "description": None},
        {"created_at": "yesterday"},
        {"created_at": None},
        {"id": None},
        {"id": 17},
    ],
    ids=str,
)
def test_a_pin_that_might_be_it_is_never_adopted(change: dict[str, Any]) -> None:
    assert match(attempt(), board(listed(**change)), (), ()) == Similar()


@pytest.mark.parametrize("seconds", [-62, 92, -86_400])
def test_a_pin_of_another_time_is_not_it(seconds: float) -> None:
    assert match(attempt(), board(listed(seconds=seconds)), (), ()) == NotFound()


@pytest.mark.parametrize("seconds", [-59, 0, 89])
def test_a_minute_of_slack_counts(seconds: float) -> None:
    assert match(attempt(), board(listed(seconds=seconds)), (), ()) == Found("1")


def test_a_time_with_a_zone_is_read_too() -> None:
    pin = listed(created_at="2026-09-01T14:00:01+02:00")
    assert match(attempt(), board(pin), (), ()) == Found("1")


def test_several_equal_pins_are_undecidable() -> None:
    found = match(attempt(), board(listed("1"), listed("2")), (), ())
    assert isinstance(found, Undecidable)


def test_the_same_pin_on_two_pages_is_one_pin() -> None:
    assert match(attempt(), board(listed("1"), listed("1")), (), ()) == Found("1")


def test_a_known_id_is_excluded() -> None:
    assert match(attempt(), board(listed("1"), listed("2")), {"1"}, ()) == Found("2")
    assert match(attempt(), board(listed("1")), {"1"}, ()) == NotFound()


@pytest.mark.parametrize("pins", [(), (listed("1"),)])
def test_a_list_that_was_not_read_to_its_end_is_undecidable(pins: tuple[Any, ...]) -> None:
    assert isinstance(match(attempt(), board(*pins, is_complete=False), (), ()), Undecidable)


def test_a_pin_of_another_attempt_is_not_similar() -> None:
    other = attempt(texts=TEXTS._replace(title="Vase"))
    pins = board(listed("2", title="Vase"))
    assert match(attempt(), pins, (), [other]) == NotFound()
    assert match(attempt(), pins, (), []) == Similar()


def test_an_equal_pin_that_another_attempt_may_have_made_is_undecidable() -> None:
    other = attempt(started_at=START - timedelta(seconds=40))
    assert isinstance(match(attempt(), board(listed("1")), (), [other]), Undecidable)


def test_an_earlier_attempt_of_the_same_pin_prevents_nothing() -> None:
    first = attempt()
    second = replace(first, attempt_id=uuid4(), number=2)
    assert match(second, board(listed("1")), (), [first]) == Found("1")


def test_the_order_of_the_list_does_not_matter() -> None:
    pins = [
        listed("1"),
        listed("2", title="Vase", description=None, link=None),
        listed("3", seconds=-400),
        listed("4", description="other"),
    ]
    for seed in range(20):
        Random(seed).shuffle(pins)
        assert match(attempt(), board(*pins), (), ()) == Found("1")


def marked(**changes: Any) -> DeliveryAttempt:
    bare = attempt(**changes)
    link = mark_link("https://example.com/lamp", bare.attempt_id)
    return replace(bare, texts=TEXTS._replace(link=link))


def test_a_link_mark_decides_also_among_equal_pins_and_in_a_long_list() -> None:
    sent = marked()
    pins = board(
        listed("1"),
        listed("2", link=sent.texts.link, title="The page's own title"),
        is_complete=False,
    )
    assert match(sent, pins, (), ()) == Found("2")


def test_without_its_link_mark_an_equal_pin_is_only_similar() -> None:
    assert match(marked(), board(listed("1")), (), ()) == Similar()


def test_a_copy_with_the_same_link_mark_is_undecidable() -> None:
    sent = marked()
    pins = board(listed("1", link=sent.texts.link), listed("2", link=sent.texts.link))
    assert isinstance(match(sent, pins, (), ()), Undecidable)


@pytest.mark.parametrize("link", ["https://a.example/", "https://a.example/#top", "https://a/#a&b"])
def test_a_link_mark_keeps_the_link_and_its_fragment(link: str) -> None:
    attempt_id = uuid4()
    with_mark = mark_link(link, attempt_id)
    assert with_mark is not None
    assert with_mark.startswith(link)
    assert has_mark(with_mark, attempt_id)
    assert not has_mark(with_mark, uuid4())
    assert not has_mark(link, attempt_id)


def test_a_pin_without_a_link_gets_no_mark() -> None:
    assert mark_link(None, uuid4()) is None
    assert not has_mark(None, uuid4())
