"""The texts as they are sent, and the digest by which equal pins wait for each other."""

from typing import Any
from uuid import UUID

from services.publisher.delivery.attempts.compared import build_texts, digest
from services.publisher.delivery.model import ComparedTexts

ATTEMPT = UUID(int=7)


def make_pin(**fields: Any) -> dict[str, Any]:
    return {"title": "Lamp", "description": None, "alt_text": None, "link_url": None, **fields}


def test_a_mark_is_added_to_a_link_that_stays_short_enough() -> None:
    marked = build_texts(make_pin(link_url="https://a.example/"), ATTEMPT)
    assert marked.link == f"https://a.example/#pinflow={ATTEMPT.hex}"
    longest = "https://a.example/".ljust(2048, "x")
    assert build_texts(make_pin(link_url=longest), ATTEMPT).link == longest
    assert build_texts(make_pin(), ATTEMPT).link is None


def test_texts_that_pinterest_may_show_alike_have_one_digest() -> None:
    texts = ComparedTexts("Lamp", None, None, "https://a.example/x")
    assert digest("1", texts) == digest(
        "1", ComparedTexts(" lamp\n", "", None, "https://a.example/x/#mark")
    )
    assert digest("1", texts) != digest("2", texts)
    assert digest("1", texts) != digest("1", texts._replace(title="Lamps"))
    assert digest("1", texts) != digest("1", ComparedTexts("", "Lamp", None, texts.link))
