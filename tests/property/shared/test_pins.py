"""Row validation is stable: a valid row stays valid and keeps its fingerprint."""

from typing import Any
from uuid import UUID, uuid5

from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import Url

from services.publisher.ids import compute_pin_id
from shared.contract.events import MAX_REJECTED_VALUE_LENGTH, PinContent
from shared.contract.pins import (
    PinSubmission,
    compute_fingerprint,
    make_printable,
)
from shared.contract.schedule_ids import derive_pin_id, derive_schedule_id
from shared.contract.wire import encode
from tests.property.documents import storable_characters, urls, valid_rows, values
from tests.property.profiles import examples
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.strict_pins import StrictPinSubmission


def accepted(row: dict[str, Any]) -> PinSubmission:
    try:
        return PinSubmission.model_validate(row)
    except ValidationError:
        assume(False)  # noqa: FBT003 - tells hypothesis to draw another row
        raise


@examples(50)
@given(valid_rows())
def test_an_accepted_row_is_accepted_again_unchanged(row: dict[str, Any]) -> None:
    first = accepted(row)
    document = {
        name: str(value) if isinstance(value, UUID) else value
        for name, value in first.model_dump(exclude={"run_at"}).items()
    }
    if first.run_at is not None:
        document["run_at"] = first.run_at.isoformat()
    again = StrictPinSubmission.model_validate(document)
    assert again.model_dump() == first.model_dump()
    content = parse_event(PinContent, encode(first.to_content()))
    assert compute_fingerprint(first) == compute_fingerprint(again) == compute_fingerprint(content)


@examples(60)
@given(valid_rows(), st.text(min_size=1, max_size=20).filter(str.strip), st.data())
def test_the_fingerprint_covers_the_texts_and_not_the_key(
    row: dict[str, Any], key: str, data: st.DataObject
) -> None:
    pin = accepted(row)
    assert compute_fingerprint(
        pin.model_copy(update={"idempotency_key": key})
    ) == compute_fingerprint(pin)
    name = data.draw(
        st.sampled_from(["board_id", "title", "description", "alt_text", "dominant_color"])
    )
    other = pin.model_copy(update={name: f"{getattr(pin, name)}!"})
    assert compute_fingerprint(other) != compute_fingerprint(pin)


@examples(80)
@given(urls)
@example("http://a.example")
@example("HTTPS://A.example:443/%7e/../b?#")
def test_a_url_has_the_fingerprint_of_its_normal_form(url: str) -> None:
    pin = accepted(submitted_row(link_url=url))
    assert pin.link_url == url.strip()
    normal = str(Url(url.strip()))
    assert str(Url(normal)) == normal
    assert compute_fingerprint(pin) == compute_fingerprint(
        pin.model_copy(update={"link_url": normal})
    )


@examples(60)
@given(
    st.lists(
        st.text(storable_characters.filter(lambda term: term != ","), max_size=20), max_size=50
    )
)
def test_terms_are_equal_as_a_list_or_as_text(terms: list[str]) -> None:
    as_list, as_text = (
        accepted(submitted_row(related_terms=terms)),
        accepted(submitted_row(related_terms=",".join(terms))),
    )
    assert as_list.related_terms == as_text.related_terms
    assert compute_fingerprint(as_list) == compute_fingerprint(as_text)


@examples(50)
@given(values, st.integers(1, 300))
@example("\ud800" * 300, 200)
@example([[[[[["deep"]]]]]], 200)
@example(10**4000, 200)
def test_a_value_in_an_error_is_short_and_can_be_sent_and_stored(value: Any, limit: int) -> None:
    text = make_printable(value, limit)
    assert len(text) <= max(limit, MAX_REJECTED_VALUE_LENGTH)
    assert "\0" not in text
    assert text.encode().decode() == text


@examples(60)
@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"]), max_size=255))
def test_invariant_3_a_key_names_one_pin_and_one_schedule(workspace_id: UUID, key: str) -> None:
    pin_id = compute_pin_id(workspace_id, key)
    assert pin_id == uuid5(workspace_id, key)
    assert derive_pin_id(derive_schedule_id(pin_id)) == pin_id
    assert derive_schedule_id(pin_id).version == 8
