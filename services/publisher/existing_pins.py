"""Describes the pin that already has a request's idempotency key. Does no I/O.

A row or call with that key creates nothing. Its answer says in which state the pin is, and in which
fields the sent content differs from the pin's.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, assert_never
from uuid import UUID

from msgspec.structs import asdict, replace

from services.publisher.model import PinState
from shared.contract.events import (
    MAX_DIFFERENCE_LENGTH,
    ExistingState,
    FieldDifference,
    PinContent,
)
from shared.contract.pins import compute_fingerprint, make_printable
from shared.contract.urls import normalize_url

CONTENT_COLUMNS = PinContent.__struct_fields__
"""The columns of publisher.pins with a pin's content, in the order of PinContent's fields."""
COMPARED_FIELDS = tuple(name for name in CONTENT_COLUMNS if name != "idempotency_key")
"""The fields that a fingerprint covers."""
_URLS = frozenset({"link_url", "image_url", "cover_image_url"})
_CONTEXT_LENGTH = 20
"""Characters before the first difference of two long texts."""


class ContentComparison(NamedTuple):
    """Compares the content of a request with that of its key's pin."""

    payload_matches: bool
    """True if the content equals the first accepted content of the key."""
    differing_fields: list[FieldDifference]
    """The fields that differ from the pin as it is now. Empty if the content matches."""

    def dump_differing_fields(self) -> list[dict[str, Any]]:
        """Returns the differing fields for JSON."""
        return [asdict(difference) for difference in self.differing_fields]


def find_existing_state(state: str, *, is_deleted: bool, is_due: bool) -> ExistingState:
    """Translates the columns of a pin. `is_due` is whether its `run_at` has come."""
    if is_deleted:
        return ExistingState.DELETED
    match PinState(state):
        case PinState.PUBLISHED | PinState.FAILED | PinState.QUEUED as same:
            return ExistingState(same.value)
        case PinState.SCHEDULED:
            return ExistingState.QUEUED if is_due else ExistingState.SCHEDULED
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return ExistingState.PUBLISHING
        case PinState.CANCELED:
            return ExistingState.CANCELED
        case unknown:
            assert_never(unknown)


def compare_content(
    row: Mapping[str, Any], sent: PinContent, fingerprint: UUID
) -> ContentComparison:
    """Compares sent content with a pin. `row` has the columns of publisher.pins."""
    if row["fingerprint"] == fingerprint:
        return ContentComparison(payload_matches=True, differing_fields=[])
    stored = PinContent(**{name: row[name] for name in CONTENT_COLUMNS})
    return ContentComparison(
        payload_matches=False,
        differing_fields=find_differences(stored, row["fingerprint"], sent),
    )


def find_differences(
    stored: PinContent, fingerprint: UUID, sent: PinContent
) -> list[FieldDifference]:
    """Finds the fields in which sent content differs from a pin, although its fingerprint differs.

    URLs are compared as browsers write them, as in the fingerprint. `fingerprint` is the pin's: it
    belongs to the content that was first accepted. The fields are compared with the pin as it is
    now. The list is empty if an edit has made the pin equal to the sent content. It is also empty
    if the only difference is a `run_at` in the past that the first content had: it is not stored.
    """
    differences = []
    for name in COMPARED_FIELDS:
        values = getattr(stored, name), getattr(sent, name)
        if name == "run_at":
            is_different = _has_other_time(stored, fingerprint, sent)
        elif name in _URLS:
            is_different = _normalize(values[0]) != _normalize(values[1])
        else:
            is_different = values[0] != values[1]
        if is_different:
            stored_text, sent_text = _shorten(*map(_format, values))
            differences.append(FieldDifference(field=name, stored=stored_text, sent=sent_text))
    return differences


def _has_other_time(stored: PinContent, fingerprint: UUID, sent: PinContent) -> bool:
    """Returns whether the times differ. A pin that was published at once has no stored `run_at`.

    Its content may have had a time in the past. If that was the sent one, the fingerprint of the
    pin with this time is the stored fingerprint.
    """
    if stored.run_at is not None or sent.run_at is None:
        return stored.run_at != sent.run_at
    try:
        return compute_fingerprint(replace(stored, run_at=sent.run_at)) != fingerprint
    except ValueError:  # another producer sent something that is no URL
        return True


def _normalize(url: str | None) -> str | None:
    try:
        return url and normalize_url(url)
    except ValueError:  # another producer sent something that is no URL
        return url


def _format(value: Any) -> str | None:
    match value:
        case None:
            return None
        case list():
            return ", ".join(value)
        case datetime():
            return _format_time(value)
    return str(value)


def _format_time(time: datetime) -> str:
    try:
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # another producer sent a time that is not in the years 1 to 9999 in UTC
        return time.isoformat()


def _shorten(stored: str | None, sent: str | None) -> tuple[str | None, ...]:
    """Cuts two texts at MAX_DIFFERENCE_LENGTH.

    If the cut texts would be equal, both start shortly before the first difference instead.
    """
    start = 0
    if stored and sent and stored[:MAX_DIFFERENCE_LENGTH] == sent[:MAX_DIFFERENCE_LENGTH]:
        start = max(0, _find_first_difference(stored, sent) - _CONTEXT_LENGTH)
    ellipsis = "…" if start else ""
    return tuple(
        text if text is None else make_printable(ellipsis + text[start:], MAX_DIFFERENCE_LENGTH)
        for text in (stored, sent)
    )


def _find_first_difference(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right),
        min(len(first), len(second)),
    )
