"""Definitions that repeat an event's fields have all of them."""

from msgspec.structs import fields

from services.ingest.parsing import fast_path
from shared.contract.events import PinContent
from shared.contract.pins import PinSubmission
from shared.http.row_results import ResultWithNulls, RowResultResponse


def test_a_submission_has_the_fields_of_a_pins_content_in_their_order() -> None:
    submitted = [(name, field.is_required()) for name, field in PinSubmission.model_fields.items()]
    assert submitted == [(field.name, field.required) for field in fields(PinContent)]


def test_the_fast_path_writes_the_fields_of_a_pins_content_in_their_order() -> None:
    assert fast_path.FAST_PATH_ROW.__struct_fields__ == PinContent.__struct_fields__


def test_a_result_is_answered_with_the_documented_fields() -> None:
    assert set(ResultWithNulls.__struct_fields__) == set(RowResultResponse.model_fields)
