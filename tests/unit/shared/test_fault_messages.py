"""Faults are described in our own words, whatever model and value they come from."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails
from pydantic_core.core_schema import ErrorType

from deploy.service_settings import find_settings
from deploy.services import SERVICES
from services.access.boards.schemas import BoardCreate, BoardUpdate
from services.access.keys.schemas import ApiKeyCreate, ApiKeyUpdate, KeyUsageReport
from services.publisher.pins.lists.filters import PinFilters, ScheduleFilters
from services.publisher.pins.request_bodies import PinForNow, PinRetry, ScheduleSubmission
from services.status.lists import ImportFilters
from services.webhooks.subscriptions.schemas import WebhookCreate, WebhookUpdate
from shared.contract.events import ImportRequested, RowsSettled
from shared.contract.fault_messages import describe_fault
from shared.contract.pin_events import PinPublished
from shared.contract.pins import PinSubmission, read_faults
from shared.contract.validation import describe_validation_error
from tests.support.applications import shared_applications
from tests.support.strict_pins import StrictPinSubmission

MODELS: tuple[type[BaseModel], ...] = (
    PinSubmission,
    StrictPinSubmission,
    PinForNow,
    ScheduleSubmission,
    PinRetry,
    BoardCreate,
    BoardUpdate,
    ApiKeyCreate,
    ApiKeyUpdate,
    KeyUsageReport,
    WebhookCreate,
    WebhookUpdate,
    PinFilters,
    ScheduleFilters,
    ImportFilters,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    float("nan"),
    10**30,
    "",
    " ",
    "x",
    "x" * 3000,
    "\0",
    "\ud800",
    "1",
    "-1",
    "500",
    "1" * 400,
    "2026-13-01T00:00:00Z",
    "2026-02-30T10:00:00Z",
    "2026-03-06T10:00:00",
    "2026-03-06",
    "0001-01-01T00:00:00+14:00",
    "http://",
    "http://[::1",
    "http://a:99999",
    "https://exa mple",
    "ftp://shop.example",
    "https://u:p@shop.example",
    "https://" + "ä" * 2000 + ".example",
    "whsec_x" * 5,
    [],
    [1],
    ["x"] * 200,
    ["x" * 300],
    {},
    {"x": 1},
)
PHRASES = re.compile(
    r"Input should|Extra inputs|Field required|Value error|Assertion failed|should (have|be|match)"
    r"|unable to|valid (string|integer|dictionary|boolean)|after validation|are not permitted"
    r"|pydantic|python|Python|datetime|dictionary"
)


def validate_badly(model: Any) -> Iterator[ValidationError]:
    adapter = TypeAdapter(model)
    names = getattr(model, "model_fields", {})
    documents = [*VALUES, {"unknown": 1}, *({name: value} for name in names for value in VALUES)]
    for document in documents:
        try:
            adapter.validate_python(document)
        except ValidationError as error:
            yield error


def collect_messages() -> Iterator[str]:
    for model in MODELS:
        for error in validate_badly(model):
            yield from (fault.message for fault in read_faults(error))
            yield describe_validation_error(error)


def test_no_phrase_of_pydantic_is_left_in_faults_of_request_models() -> None:
    messages = set(collect_messages())
    assert len(messages) > 100
    assert [message for message in messages if PHRASES.search(message)] == []


def test_no_phrase_of_pydantic_is_left_in_faults_of_query_parameters() -> None:
    messages = set()
    for app in shared_applications().values():
        for route in iter_route_contexts(app.router.routes):
            for parameter in getattr(getattr(route, "dependant", None), "query_params", ()):
                for value in VALUES:
                    _, errors = parameter.validate(value, {}, loc=("query", parameter.alias))
                    messages |= {describe_fault(error) for error in errors or ()}
    assert {"must be true or false", "must be a whole number, for example 50"} <= messages
    assert [message for message in messages if PHRASES.search(message)] == []


def test_no_phrase_of_pydantic_is_left_in_faults_of_events() -> None:
    for event in (ImportRequested, RowsSettled, PinPublished):
        for error in validate_badly(event):
            assert PHRASES.search(describe_validation_error(error)) is None


def test_no_phrase_of_pydantic_is_left_in_faults_of_settings() -> None:
    for service in SERVICES:
        settings = find_settings(service)
        for value in VALUES:
            try:
                settings.model_validate(dict.fromkeys(settings.model_fields, value))
            except ValidationError as error:
                for details in error.errors(include_input=False):
                    assert PHRASES.search(describe_fault(details)) is None


CONTEXT = {
    "error": "E",
    "gt": 1,
    "ge": 1,
    "lt": 1,
    "le": 1,
    "multiple_of": 1,
    "field_type": "List",
    "min_length": 1,
    "max_length": 1,
    "actual_length": 2,
    "pattern": "P",
    "expected": "'a' or 'b'",
    "class_name": "C",
    "method_name": "m",
    "discriminator": "d",
    "tag": "t",
    "expected_tags": "x",
    "expected_schemes": "s",
    "tz_expected": 0,
    "tz_actual": 1,
    "encoding": "utf8",
    "encoding_error": "ee",
    "max_digits": 1,
    "decimal_places": 1,
    "whole_digits": 1,
    "expected_version": 4,
    "class": "C",
    "attribute": "a",
}


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_every_fault_of_pydantic_has_a_message_of_ours(kind: Any) -> None:
    fault: InitErrorDetails = {"type": kind, "input": "v", "ctx": CONTEXT}
    (details,) = ValidationError.from_exception_data("Some", [fault]).errors()
    message = describe_fault(details)
    assert message != details["msg"] or kind in {"value_error", "assertion_error"}
    assert PHRASES.search(message) is None


def describe(model: type[BaseModel], **fields: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    return {str(fault.field): fault.message for fault in read_faults(caught.value)}


def test_messages_name_bounds_and_examples() -> None:
    messages = describe(
        PinSubmission,
        account_id="x",
        board_id=7,
        title="x" * 120,
        idempotency_key=None,
        related_terms=["x"] * 51,
        alt_text=["x"],
    )
    assert messages == {
        "account_id": "must be a UUID, for example 0198c7a4-5d1e-7f3b-8a52-3c6f0e9b7d41",
        "board_id": "must be text: put the value in double quotes",
        "title": "must have at most 100 characters; it has 120",
        "idempotency_key": "must be text, not null",
        "related_terms": "must have at most 50 items; it has 51",
        "alt_text": "must be text, not a list",
        "None": messages["None"],  # no image
    }
    assert describe(PinFilters, limit="201", offset="-1", sort="title") == {
        "limit": "must be at most 200; it is 201",
        "offset": "must be at least 0; it is -1",
        "sort": "must be one of: created_at_desc, created_at_asc, published_at_desc, "
        "published_at_asc, title_asc, title_desc, status_asc, status_desc",
    }
    assert describe(WebhookCreate, url="https://a.example", secret="x", events=[]) == {
        "secret": "must have at least 16 characters; it has 1",
        "events": "must have at least 1 item",
    }
    assert describe(WebhookUpdate, is_enabled="yes") == {"is_enabled": "must be true or false"}
    assert describe(BoardCreate, account_id="0198c7a4-5d1e-7f3b-8a52-3c6f0e9b7d41") == {
        "name": "is required"
    }


def test_a_null_has_no_value_in_its_fault() -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate({"title": None, "board_id": 7})
    values = {fault.field: fault.value for fault in read_faults(caught.value)}
    assert (values["title"], values["board_id"]) == (None, "7")


def test_the_description_without_the_input_does_not_depend_on_it() -> None:
    secret = "s3cret" * 100
    for value in (secret, [secret], {secret: 1}):
        for error in validate_badly(PinSubmission):
            assert secret not in describe_validation_error(error)
        with pytest.raises(ValidationError) as caught:
            PinSubmission.model_validate(dict.fromkeys(PinSubmission.model_fields, value))
        assert "s3cret" not in json.dumps(describe_validation_error(caught.value))
