"""Every operation of the OpenAPI document has examples, and they match its schemas."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from deploy.generate.examples.values import MODEL_VALUES, OPERATION_VALUES, VALUES
from deploy.generate.openapi import TAGS
from tests.support.applications import shared_document

DOCUMENT = shared_document()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, operations in (*DOCUMENT["paths"].items(), *DOCUMENT["webhooks"].items())
    for method, operation in operations.items()
}
WITHOUT_EXAMPLE = {
    "GET /readyz, 503",  # has the fields of the 200 response
    "POST /v1/pins/imports/csv, request as multipart/form-data",  # /docs then shows curl with @file
}
"""Bodies without an example."""


class Body(NamedTuple):
    name: str
    content: dict[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        return {**self.content["schema"], "components": DOCUMENT["components"]}


def find_bodies() -> Iterator[Body]:
    """Yields the bodies of requests and responses for which the document has a schema."""
    for name, operation in OPERATIONS.items():
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield Body(f"{name}, request as {kind}", content)
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                yield Body(f"{name}, {status}", content)


BODIES = list(find_bodies())


def test_the_values_of_examples_belong_to_existing_models_and_operations() -> None:
    models = DOCUMENT["components"]["schemas"]
    unknown = [
        f"{model}.{field}"
        for model, values in MODEL_VALUES.items()
        for field in values
        if field not in models.get(model, {}).get("properties", {})
    ]
    assert unknown == []
    names = {operation["operationId"] for operation in OPERATIONS.values()}
    assert set(OPERATION_VALUES) <= names
    fields = {name for schema in models.values() for name in schema.get("properties", {})}
    assert set(VALUES) <= fields


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
def test_every_example_matches_its_schema(body: Body) -> None:
    if body.name in WITHOUT_EXAMPLE:
        assert "example" not in body.content
        return
    faults = Draft202012Validator(body.schema, format_checker=FormatChecker()).iter_errors(
        body.content["example"]
    )
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []
    assert list(find_unknown_fields(body.content["schema"], body.content["example"])) == []


def find_unknown_fields(schema: dict[str, Any], value: Any) -> Iterator[str]:
    """Yields fields that the schema lacks: those of an older version, and misspelled ones."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for item in value:
            yield from find_unknown_fields(schema.get("items", {}), item)
    elif (
        isinstance(value, dict)
        and "properties" in schema
        and not schema.get("additionalProperties")
    ):
        for name, part in value.items():
            if name not in schema["properties"]:
                yield name
            else:
                yield from find_unknown_fields(schema["properties"][name], part)


def test_every_operation_has_one_tag_that_is_described() -> None:
    assert {
        name: operation.get("tags")
        for name, operation in OPERATIONS.items()
        if len(operation.get("tags", [])) != 1
    } == {}
    assert {operation["tags"][0] for operation in OPERATIONS.values()} == set(TAGS)


def test_every_operation_that_changes_something_has_a_description() -> None:
    """A GET may have only a summary."""
    undescribed = {
        name for name, operation in OPERATIONS.items() if not operation.get("description")
    }
    assert {name for name in undescribed if not name.startswith("GET ")} == set()


def test_the_examples_are_json() -> None:
    json.dumps(DOCUMENT, allow_nan=False)
