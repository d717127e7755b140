"""The OpenAPI document's examples are what its schemas say, and no operation is without."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from deploy.generate.examples import EXAMPLES
from deploy.generate.openapi import TAGS, build_document

DOCUMENT = build_document()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
WITHOUT = {"GET /readyz, 503"}
"""Not worth one: the same as the 200 with other words in it."""


class Shown(NamedTuple):
    where: str
    content: dict[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        return {**self.content["schema"], "components": DOCUMENT["components"]}


def bodies() -> Iterator[Shown]:
    """What is sent and what is answered, wherever the document has a schema for it."""
    for name, operation in OPERATIONS.items():
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield Shown(f"{name}, asked as {kind}", content)
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                yield Shown(f"{name}, {status}", content)


BODIES = list(bodies())


def test_every_operation_has_examples_and_there_are_no_others() -> None:
    assert set(EXAMPLES) == set(OPERATIONS)


@pytest.mark.parametrize("shown", BODIES, ids=lambda shown: shown.where)
def test_every_example_is_what_the_schema_says(shown: Shown) -> None:
    if shown.where in WITHOUT:
        assert "example" not in shown.content
        return
    faults = Draft202012Validator(shown.schema, format_checker=FormatChecker()).iter_errors(
        shown.content["example"]
    )
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []
    assert list(unknown_fields(shown.content["schema"], shown.content["example"])) == []


def unknown_fields(schema: dict[str, Any], value: Any) -> Iterator[str]:
    """Fields of an example that the schema does not name: of an older version, or misspelt."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for one in value:
            yield from unknown_fields(schema.get("items", {}), one)
    elif (
        isinstance(value, dict)
        and "properties" in schema
        and not schema.get("additionalProperties")
    ):
        for name, part in value.items():
            if name not in schema["properties"]:
                yield name
            else:
                yield from unknown_fields(schema["properties"][name], part)


def test_every_operation_has_one_tag_that_is_described() -> None:
    assert {
        name: operation.get("tags")
        for name, operation in OPERATIONS.items()
        if len(operation.get("tags", [])) != 1
    } == {}
    assert {operation["tags"][0] for operation in OPERATIONS.values()} == set(TAGS)


def test_every_operation_that_asks_for_something_hard_to_see_says_so() -> None:
    """A docstring, or a name that says it all."""
    silent = {name for name, operation in OPERATIONS.items() if not operation.get("description")}
    assert {name for name in silent if not name.startswith("GET ")} == set()


def test_the_examples_are_json() -> None:
    json.dumps(DOCUMENT, allow_nan=False)
