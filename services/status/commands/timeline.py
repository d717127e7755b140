"""Builds the timeline of a row from what status and the publisher know. No I/O."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.contract.events import RowStatus
from shared.http.row_results import ResultWithNulls
from shared.postgres.row import Row

_PIN_TIMES = {
    "created_at": "stored",
    "published_at": "published",
    "failed_at": "failed",
    "removed_at": "removed from Pinterest",
    "deleted_at": "deleted",
    "touched_at": "changed",
}
"""The event of each time of a pin in the publisher's answer."""
_ATTEMPTS = {
    None: "Pinterest's answer is not known yet.",
    "created": "Pinterest created the pin.",
    "refused": "Pinterest refused it.",
    "not_sent": "Pinterest was not reached, so nothing was sent.",
    "found": "The answer was lost. The pin was found on Pinterest.",
    "absent": "The answer was lost. The pin is not on Pinterest.",
    "unconfirmed": "The answer was lost. Pinterest's lists can't say whether the pin exists.",
}
"""Sentences about an attempt to create a pin on Pinterest, by its outcome."""
_CREATION_TIME = "The time is that of the import. Lists are sorted by it."


def build_timeline(
    job: Row,
    row_number: int,
    result: ResultWithNulls | None,
    settled_at: datetime | None,
    stored: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Builds a RowTimelineResponse. `stored` is the publisher's answer, None if it has none."""
    events = [_build_event("accepted", job["accepted_at"], "Kafka had the whole import.")]
    if stored is not None:
        events += _build_stored_events(stored)
    if result is not None:
        events.append(_build_event("settled", settled_at, _describe_result(result)))
    # Events without a time are of an earlier version, and keep their place
    timed = sorted((event for event in events if event["at"]), key=lambda event: event["at"])
    pin = (stored or {}).get("pin") or {}
    return {
        "job_id": str(job["job_id"]),
        "row_number": row_number,
        "line": result.line if result else None,
        "status": result.status.value if result else None,
        "idempotency_key": result.idempotency_key if result else None,
        "pin_id": str(result.pin_id) if result and result.pin_id else None,
        "schedule_id": str(result.schedule_id) if result and result.schedule_id else None,
        "error_code": result.error_code if result else None,
        "error_message": result.error_message if result else None,
        "state": pin.get("state"),
        "run_at": pin.get("run_at"),
        "events": timed + [event for event in events if not event["at"]],
        "waiting": None if result is not None else _explain_wait(stored),
    }


def hide_foreign_pin(
    stored: Mapping[str, Any], account_ids: Collection[UUID] | None
) -> Mapping[str, Any]:
    """Hides state and times of a pin that belongs to an account the API key may not use.

    GET of such a pin or schedule is 404 for the key. Its id stays, as in the row's result.
    """
    pin = stored.get("pin")
    if pin is None or account_ids is None or pin.get("account_id") in set(map(str, account_ids)):
        return stored
    return {**stored, "pin": {"pin_id": pin.get("pin_id")}, "attempts": []}


def _build_stored_events(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    events = []
    pin = stored.get("pin") or {}
    for name, event in _PIN_TIMES.items():
        if pin.get(name):
            details = {
                "failed": pin.get("error_message"),
                "stored": _CREATION_TIME,
                "published": _describe_publication(pin),
            }
            detail = details.get(event)
            shown = "scheduled" if event == "stored" and pin.get("schedule_id") else event
            events.append(_build_event(shown, pin[name], detail))
    events += [
        _build_event("sent", attempt["started_at"], _describe_attempt(attempt))
        for attempt in stored.get("attempts") or ()
    ]
    outcome = stored.get("outcome")
    if outcome and outcome.get("recorded_at"):
        detail = f"The publisher recorded the outcome {outcome.get('status')}."
        events.append(_build_event("recorded", outcome["recorded_at"], detail))
    if stored.get("canceled_at"):
        detail = "Rows without a result end as failed with the code canceled."
        events.append(_build_event("import canceled", stored["canceled_at"], detail))
    return events


def _build_event(event: str, at: datetime | str | None, detail: str | None) -> dict[str, Any]:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return {"event": event, "at": at, "detail": detail}


def _describe_publication(pin: Mapping[str, Any]) -> str | None:
    pinterest_pin_id = pin.get("pinterest_pin_id")
    return pinterest_pin_id and f"The pin's id at Pinterest is {pinterest_pin_id}."


def _describe_attempt(attempt: Mapping[str, Any]) -> str:
    """Says what became of an attempt to create the pin on Pinterest."""
    outcome = attempt.get("outcome")
    message = attempt.get("error_message") or attempt.get("error_code") or ""
    described = _ATTEMPTS.get(outcome, f"{outcome}.")
    return f"Attempt {attempt['number']}: {described} {message}".strip()


def _describe_result(result: ResultWithNulls) -> str:
    match result.status:
        case RowStatus.CREATED:
            return "created: a pin or a schedule."
        case RowStatus.EXISTING:
            state = f" Its pin was {result.existing_state.value}." if result.existing_state else ""
            return f"existing: the idempotency key was used before.{state}"
        case RowStatus.FAILED:
            return f"failed: {result.error_message}"


def _explain_wait(stored: Mapping[str, Any] | None) -> str:
    """Says why a row has no result yet, as far as it is known."""
    if stored is None:
        return (
            "The publisher does not answer. The row waits in Kafka until the publisher is up again."
        )
    if stored.get("outcome") or stored.get("pin"):
        return "The publisher has settled the row. Its result is on the way to this job."
    return "The row waits in Kafka until the publisher reaches it."
