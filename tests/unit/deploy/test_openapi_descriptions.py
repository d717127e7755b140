"""Everything in the OpenAPI document has a description and a name that clients can use."""

import re
from collections.abc import Iterator
from typing import Any

from deploy.generate.openapi import find_operations
from tests.support.applications import shared_document

DOCUMENT = shared_document()
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
OPERATIONS = find_operations(DOCUMENT)
COMBINATIONS = ("anyOf", "oneOf", "allOf")

Part = tuple[str, dict[str, Any]]
"""A part of the document that needs a description, and its location."""


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """Follows a reference, but keeps the description beside it."""
    if "$ref" not in schema:
        return schema
    return {**SCHEMAS[schema["$ref"].rpartition("/")[2]], **schema}


def find_properties(location: str, schema: dict[str, Any]) -> Iterator[Part]:
    for name, part in schema.get("properties", {}).items():
        yield f"{location}.{name}", resolve(part)
        yield from find_properties(f"{location}.{name}", part)
    nested = [schema.get("items"), schema.get("additionalProperties")]
    nested += [part for keyword in COMBINATIONS for part in schema.get(keyword, [])]
    for part in nested:
        if isinstance(part, dict):
            yield from find_properties(location, part)


def find_parts(operation: dict[str, Any]) -> Iterator[Part]:
    location = operation["operationId"]
    yield location, operation
    for parameter in operation.get("parameters", []):
        yield f"{location}, parameter {parameter['name']}", parameter
    if "requestBody" in operation:
        yield f"{location}, body", operation["requestBody"]
    for status, response in operation["responses"].items():
        yield f"{location}, {status}", response
        for kind in ("headers", "links"):
            for name, part in response.get(kind, {}).items():
                yield f"{location}, {status}, {name}", part


def find_schemas(operation: dict[str, Any]) -> Iterator[Part]:
    """Yields the schemas of an operation's bodies."""
    location = operation["operationId"]
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for media_type, content in body.get("content", {}).items():
            yield f"{location}, {media_type}", content["schema"]


def normalize(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def says_something(location: str, part: dict[str, Any]) -> bool:
    """True if the description is more than the name, and a sentence."""
    description = str(part.get("description", "")).strip()
    name = re.split(r"[.\s]", location)[-1]
    meaningless = {normalize(name), normalize(str(part.get("title", "")))}
    return description[-1:] in {".", ")"} and normalize(description) not in meaningless


def test_every_operation_parameter_body_response_header_and_link_is_described() -> None:
    parts = [part for operation in OPERATIONS for part in find_parts(operation)]
    assert len(parts) > len(OPERATIONS) * 3
    assert [location for location, part in parts if not says_something(location, part)] == []


def test_every_schema_and_property_is_described() -> None:
    parts = [
        *SCHEMAS.items(),
        *(part for name, schema in SCHEMAS.items() for part in find_properties(name, schema)),
    ]
    assert len(parts) > len(SCHEMAS) * 3
    assert [location for location, part in parts if not says_something(location, part)] == []


def test_every_tag_and_way_to_authenticate_is_described() -> None:
    parts = {
        **{tag["name"]: tag for tag in DOCUMENT["tags"]},
        **DOCUMENT["components"]["securitySchemes"],
    }
    assert [name for name, part in parts.items() if not says_something(name, part)] == []


def test_bodies_are_named_components_lists_or_unions_of_them() -> None:
    """Generated clients name their types after components."""

    def is_named(schema: dict[str, Any]) -> bool:
        if "anyOf" in schema:
            return all(is_named(part) for part in schema["anyOf"])
        if schema.get("type") == "array":
            return is_named(schema["items"])
        return "$ref" in schema or schema.get("type") == "null"

    schemas = [part for operation in OPERATIONS for part in find_schemas(operation)]
    assert [location for location, schema in schemas if not is_named(schema)] == []


def test_schemas_have_no_unions_beside_their_properties() -> None:
    """Generators of clients make types from such unions that nobody understands."""
    mixed = [
        name
        for name, schema in SCHEMAS.items()
        if "properties" in schema and any(keyword in schema for keyword in COMBINATIONS)
    ]
    assert mixed == []


def test_operation_ids_are_unique_snake_case_names() -> None:
    names = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_links_name_existing_operations() -> None:
    names = {operation["operationId"] for operation in OPERATIONS}
    links = [
        link["operationId"]
        for operation in OPERATIONS
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links
    assert set(links) <= names
