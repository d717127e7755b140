"""What the document says of each answer is what PinBridge's client reads there: field by field,
down to the last.

Both are asked, not a list kept by hand: the client's methods for the models that they return, the
document for its schemas.
"""

from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from pinbridge_sdk import PinbridgeClient
from pydantic import BaseModel, TypeAdapter

from deploy.generate.examples import EXAMPLES
from deploy.generate.openapi import build_document
from tests.contract.compatibility import SDK, SUPPORTED
from tests.support.sdk import Operation

DOCUMENT = build_document()
OPERATIONS = {
    Operation.of(method, path): (f"{method.upper()} {path}", described)
    for path, operations in DOCUMENT["paths"].items()
    for method, described in operations.items()
}
METHODS = sorted(
    name
    for name, operation in SDK.items()
    if operation in SUPPORTED and not name.endswith(".list_page")
)
"""list_page reads what list does, and headers."""


def returned(method: str) -> Any:
    """The type of what the client makes of the answer."""
    resource, _, name = method.partition(".")
    function: Callable[..., Any] = getattr(
        PinbridgeClient._builtin_resource_classes[resource], name
    )
    return get_type_hints(function)["return"]


def answer_of(method: str) -> dict[str, Any] | None:
    """The schema of what is answered when all goes well; None for an answer without a body."""
    for status, response in OPERATIONS[SDK[method]][1]["responses"].items():
        if int(status) < 300 and "content" in response:
            schema: dict[str, Any] = response["content"]["application/json"]["schema"]
            return schema
    return None


def differences(wanted: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    schema = _resolved(schema)
    options = [_resolved(one) for one in schema.get("anyOf", [schema])]
    types = get_args(wanted) if get_origin(wanted) in {Union, UnionType} else (wanted,)
    if (
        any(option.get("type") == "null" for option in options)
        and NoneType not in types
        and wanted is not Any
    ):
        yield f"{where} may be null"
    for part in types:
        if get_origin(part) is list:
            (listed,) = [option for option in options if option.get("type") == "array"]
            if listed.get("maxItems") != 0:
                yield from differences(get_args(part)[0], listed["items"], f"{where}[]")
        elif isinstance(part, type) and issubclass(part, BaseModel):
            (fields,) = [option for option in options if "properties" in option]
            yield from _differences_of_fields(part, fields, where)


def _differences_of_fields(
    model: type[BaseModel], schema: dict[str, Any], where: str
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        shown = field.alias or name
        if shown not in schema["properties"]:
            yield f"{where}.{shown} is left out"
        elif shown not in schema.get("required", ()) and not _is_always_written(
            schema["properties"][shown]
        ):
            yield f"{where}.{shown} may be left out"
        else:
            yield from differences(
                field.annotation, schema["properties"][shown], f"{where}.{shown}"
            )


def _is_always_written(schema: dict[str, Any]) -> bool:
    """pydantic requires no field that has a default, but FastAPI leaves none out."""
    return "default" in schema or any(one.get("type") == "null" for one in schema.get("anyOf", ()))


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


@pytest.mark.parametrize("method", METHODS)
def test_no_field_is_left_out_and_no_required_field_is_null(method: str) -> None:
    schema = answer_of(method)
    if schema is None:
        assert returned(method) is NoneType
    else:
        assert list(differences(returned(method), schema, method)) == []


@pytest.mark.parametrize("method", METHODS)
def test_the_client_reads_the_examples_of_the_openapi_document(method: str) -> None:
    example = EXAMPLES[OPERATIONS[SDK[method]][0]].answer
    TypeAdapter(returned(method)).validate_python(example)
