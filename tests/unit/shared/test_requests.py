"""Misspelled fields of request bodies."""

from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, ConfigDict

from services.access.boards.schemas import BoardCreate, BoardUpdate
from services.access.keys.schemas import ApiKeyCreate, ApiKeyUpdate
from services.publisher.pins.request_bodies import (
    EDITABLE_PIN_FIELDS,
    PinForNow,
    PinRetry,
    ScheduleSubmission,
    parse_changes,
)
from services.webhooks.subscriptions.schemas import WebhookCreate, WebhookUpdate, parse_body
from shared.contract.errors import ApiError
from shared.http.requests import find_misspelled_fields, parse_model
from tests.support.factories import submitted_row

WEBHOOK = {
    "url": "https://shop.example/hooks",
    "secret": "0123456789abcdef",
}  # pragma: allowlist secret


def refuse(model: type[BaseModel], document: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        parse_model(model, document)
    return refused.value


@pytest.mark.parametrize(
    ("model", "valid", "name", "field"),
    [
        (PinForNow, submitted_row(), "linkUrl", "link_url"),
        (PinForNow, submitted_row(), "link", "link_url"),
        (ScheduleSubmission, submitted_row(run_at="2031-01-01T00:00:00Z"), "alttext", "alt_text"),
        (PinRetry, {}, "bord_id", "board_id"),
        (PinRetry, {}, "account", "account_id"),
        (BoardCreate, {"account_id": str(uuid4()), "name": "Lamps"}, "privcy", "privacy"),
        (BoardUpdate, {"account_id": str(uuid4()), "name": "Lamps"}, "Description", "description"),
        (ApiKeyCreate, {"name": "shop"}, "scope", "scopes"),
        (
            ApiKeyUpdate,
            {"name": "shop"},
            "pinterestAccountIds",
            "pinterest_account_ids",
        ),
        (WebhookCreate, WEBHOOK, "event", "events"),
        (WebhookUpdate, {}, "isEnabled", "is_enabled"),
    ],
)
def test_a_misspelled_field_is_refused_with_a_suggestion(
    model: type[BaseModel], valid: dict[str, Any], name: str, field: str
) -> None:
    parse_model(model, valid)
    error = refuse(model, {**valid, name: "s3cret"})
    message = f"There is no such field. Did you mean {field}? Correct its name."
    assert (error.code, error.message) == ("unknown_field", f"{name}: {message}")
    assert error.details["errors"] == [
        {"code": "unknown_field", "field": name, "message": message, "value": None}
    ]


def test_other_faults_are_listed_after_the_misspelled_field() -> None:
    row = submitted_row(note=1, titel="Lamp")
    del row["title"]
    error = refuse(PinForNow, row)
    assert error.code == "unknown_field"
    assert [(fault["field"], fault["code"]) for fault in error.details["errors"]] == [
        ("titel", "unknown_field"),
        ("title", "missing"),
    ]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (PinForNow, submitted_row(campaign="spring", note=1)),
        (WebhookCreate, {**WEBHOOK, "link": "https://shop.example", "name": "shop"}),
        (PinRetry, {"title": "Lamp"}),
    ],
)
def test_other_unknown_fields_are_ignored(model: type[BaseModel], fields: dict[str, Any]) -> None:
    parse_model(model, fields)


def test_a_model_that_takes_any_field_refuses_none() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

        title: str

    assert parse_model(Open, {"title": "Lamp", "titel": "Lampe"}).title == "Lamp"


def test_a_misspelled_field_of_an_edit_is_refused_although_others_would_change() -> None:
    with pytest.raises(ApiError) as refused:
        parse_changes({"title": "Lamp", "link": "https://shop.example"}, EDITABLE_PIN_FIELDS)
    assert refused.value.code == "unknown_field"
    assert refused.value.message == (
        "link: There is no such field. Did you mean link_url? Correct its name."
    )


def test_the_value_of_a_wrong_or_misspelled_secret_is_not_repeated() -> None:
    for document in (
        {**WEBHOOK, "secret": "s3cret"},  # pragma: allowlist secret
        {**WEBHOOK, "secert": "s3cret"},  # pragma: allowlist secret
    ):
        with pytest.raises(ApiError) as refused:
            parse_body(WebhookCreate, document)
        assert "s3cret" not in str(refused.value.body())


def test_an_object_with_more_unknown_names_than_are_examined_is_refused() -> None:
    fields = {f"{'n' * 60}{number}": 1 for number in range(100_000)} | {"titel": 1}
    (fault,) = find_misspelled_fields(fields, PinForNow.model_fields)
    assert (fault.code, fault.field) == ("unknown_field", None)
    assert fault.message == ("The body has 100001 unknown fields; the limit is 200. Remove them.")


def test_a_misspelled_field_is_found_behind_many_unknown_ones() -> None:
    fields = {f"column {number}": 1 for number in range(199)} | {"titel": 1}
    assert [fault.field for fault in find_misspelled_fields(fields, PinForNow.model_fields)] == [
        "titel"
    ]


def test_at_most_20_faults_are_listed() -> None:
    fields = {f"{'_' * number}title_": 1 for number in range(30)}
    assert len(refuse(PinForNow, fields).details["errors"]) == 20


@pytest.mark.parametrize(
    ("model", "valid", "name"),
    [(WebhookCreate, WEBHOOK, "events"), (ApiKeyCreate, {"name": "shop"}, "scopes")],
)
def test_a_value_that_is_nested_deeply_is_refused(
    model: type[BaseModel], valid: dict[str, Any], name: str
) -> None:
    nested: list[Any] = []
    for _ in range(1015):
        nested = [nested]
    error = refuse(model, {**valid, name: nested})
    assert error.message == "Invalid JSON: it is nested too deeply. Send fewer levels."
