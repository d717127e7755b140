"""Descriptions of records that do not fit their model."""

import pytest
from pydantic import ValidationError

from shared.contract.events import ImportRequested
from shared.contract.validation import MAX_DESCRIPTION, describe_validation_error
from shared.contract.wire import decoder


def read_error(document: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        decoder(ImportRequested).from_document(document)
    return caught.value


def test_every_fault_is_described_with_its_field() -> None:
    description = describe_validation_error(read_error({"request_id": 7}))
    assert description == "request_id: must be text; workspace_id: is required"


def test_a_fault_of_the_whole_record_has_no_field() -> None:
    assert describe_validation_error(read_error(7)).startswith("must be an object")


def test_a_description_contains_nothing_of_the_payload() -> None:
    secret = "s3cret" * 100  # pragma: allowlist secret
    assert "s3cret" not in describe_validation_error(
        read_error({"request_id": secret, "workspace_id": [secret], "rows": secret})
    )


def test_the_length_of_a_description_is_bounded() -> None:
    error = ValidationError.from_exception_data(
        "Some",
        [{"type": "missing", "loc": ("name" * 100, index), "input": None} for index in range(1000)],
    )
    assert len(describe_validation_error(error)) == MAX_DESCRIPTION
