"""The timeline of a row whose pin is delivered to Pinterest."""

from typing import Any
from uuid import uuid4

import pytest

from services.status.commands.timeline import build_timeline, hide_foreign_pin
from tests.support.factories import NOON

AT = "2026-11-23T12:00:0{}+00:00"


def stored(**fields: Any) -> dict[str, Any]:
    """Builds the publisher's answer about a pin with one attempt."""
    attempt = {"number": 1, "started_at": AT.format(2), "outcome": "created", **fields}
    pin = {
        "pin_id": str(uuid4()),
        "account_id": str(uuid4()),
        "state": "published",
        "created_at": AT.format(1),
        "published_at": AT.format(3),
        "pinterest_pin_id": "813744226420795884",
    }
    return {"outcome": None, "pin": pin, "canceled_at": None, "attempts": [attempt]}


def read_events(answer: dict[str, Any]) -> list[tuple[str, str | None]]:
    job = {"job_id": uuid4(), "accepted_at": NOON}
    timeline = build_timeline(job, 1, None, None, answer)
    return [(event["event"], event["detail"]) for event in timeline["events"]]


def test_a_timeline_shows_when_a_pin_was_sent_and_its_id_at_pinterest() -> None:
    assert read_events(stored())[2:] == [
        ("sent", "Attempt 1: Pinterest created the pin."),
        ("published", "The pin's id at Pinterest is 813744226420795884."),
    ]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, "Attempt 1: Pinterest's answer is not known yet."),
        ("refused", "Attempt 1: Pinterest refused it. The board is gone."),
        ("absent", "Attempt 1: The answer was lost. The pin is not on Pinterest."),
    ],
)
def test_a_timeline_says_what_became_of_an_attempt(outcome: str | None, expected: str) -> None:
    message = "The board is gone." if outcome == "refused" else None
    events = read_events(stored(outcome=outcome, error_message=message))
    assert ("sent", expected) in events


def test_invariant_10_attempts_of_a_foreign_account_are_hidden() -> None:
    hidden = hide_foreign_pin(stored(), [uuid4()])
    assert "sent" not in [event for event, _ in read_events(dict(hidden))]
