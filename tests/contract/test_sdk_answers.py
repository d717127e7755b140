"""The OpenAPI document describes each response as PinBridge's client reads it, field by field.

The return types of the client's methods are compared with the document's schemas.
"""

from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import httpx
import pytest
from pinbridge_sdk import PinbridgeClient
from pydantic import BaseModel, TypeAdapter

from tests.contract.compatibility import SDK, SUPPORTED
from tests.support.applications import shared_document
from tests.support.sdk import Operation

DOCUMENT = shared_document()
OPERATIONS = {
    Operation.from_route(method, path): (f"{method.upper()} {path}", described)
    for path, operations in DOCUMENT["paths"].items()
    for method, described in operations.items()
}
METHODS = sorted(
    name
    for name, operation in SDK.items()
    if operation in SUPPORTED and not name.endswith(".list_page")
)
"""All supported methods. `list_page` reads the same body as `list`."""


def find_return_type(method: str) -> Any:
    """Returns the type that the client's method returns, unless it is a redirect."""
    resource, _, name = method.partition(".")
    function: Callable[..., Any] = getattr(
        PinbridgeClient._builtin_resource_classes[resource], name
    )
    returned = get_type_hints(function)["return"]
    models = [part for part in get_args(returned) if part is not httpx.Response]
    return models[0] if httpx.Response in get_args(returned) else returned


def find_response(method: str) -> dict[str, Any]:
    """Returns schema and example of a successful response. Empty if it has no body."""
    for status, response in OPERATIONS[SDK[method]][1]["responses"].items():
        if int(status) < 300 and "content" in response:
            content: dict[str, Any] = response["content"]["application/json"]
            return content
    return {}


def find_differences(expected: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    schema = _resolve_reference(schema)
    options = [_resolve_reference(option) for option in schema.get("anyOf", [schema])]
    types = get_args(expected) if get_origin(expected) in {Union, UnionType} else (expected,)
    if (
        any(option.get("type") == "null" for option in options)
        and NoneType not in types
        and expected is not Any
    ):
        yield f"{where} may be null"
    for part in types:
        if get_origin(part) is list:
            (listed,) = [option for option in options if option.get("type") == "array"]
            if listed.get("maxItems") != 0:
                yield from find_differences(get_args(part)[0], listed["items"], f"{where}[]")
        elif isinstance(part, type) and issubclass(part, BaseModel):
            (fields,) = [option for option in options if "properties" in option]
            yield from _find_field_differences(part, fields, where)


def _find_field_differences(
    model: type[BaseModel], schema: dict[str, Any], where: str
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        name_in_json = field.alias or name
        if name_in_json not in schema["properties"]:
            yield f"{where}.{name_in_json} is left out"
        elif name_in_json not in schema.get("required", ()) and not _is_always_written(
            schema["properties"][name_in_json]
        ):
            yield f"{where}.{name_in_json} may be left out"
        else:
            yield from find_differences(
                field.annotation, schema["properties"][name_in_json], f"{where}.{name_in_json}"
            )


def _is_always_written(schema: dict[str, Any]) -> bool:
    """Returns whether FastAPI always writes a field that the schema does not require."""
    return "default" in schema or any(
        option.get("type") == "null" for option in schema.get("anyOf", ())
    )


def _resolve_reference(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


@pytest.mark.parametrize("method", METHODS)
def test_no_field_is_left_out_and_no_required_field_is_null(method: str) -> None:
    schema = find_response(method).get("schema")
    if schema is None:
        assert find_return_type(method) is NoneType
    else:
        assert list(find_differences(find_return_type(method), schema, method)) == []


@pytest.mark.parametrize("method", METHODS)
def test_the_client_reads_the_examples_of_the_openapi_document(method: str) -> None:
    example = find_response(method).get("example")
    TypeAdapter(find_return_type(method)).validate_python(example)
