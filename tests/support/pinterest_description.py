"""Finds Pinterest's official API description, and checks requests against it.

The description is not part of the project. Without it these checks are not run, and the tests say
so: they are the only tests that may skip.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from deploy.generate.files import ROOT

VARIABLE: Final = "PINFLOW_PINTEREST_OPENAPI"
BESIDE_THE_PROJECT: Final = Path("../shared/data/pinterest/openapi-subset.json")
API_PREFIX: Final = "/v5"
USER_AGENT: Final = "Pinflow/"
UNDESCRIBED_FIELDS: Final = {"oauth/token": {"continuous_refresh"}}
"""Fields that a text at Pinterest asks for, but that the description's schemas lack."""


def find_description() -> Path | None:
    """Returns the file's path, or None where the description is not at hand.

    Raises FileNotFoundError if the variable names a file that does not exist.
    """
    if named := os.environ.get(VARIABLE):
        path = Path(named)
        if not path.is_file():
            raise FileNotFoundError(f"{VARIABLE} names a file that does not exist: {named}")
        return path
    path = ROOT / BESIDE_THE_PROJECT
    return path if path.is_file() else None


def check_requests_of_pinflow(requests: Iterable[Mapping[str, Any]]) -> None:
    """Raises AssertionError if Pinflow sent a request that breaks the description.

    Where the description is not at hand, this check is not run, and test_contract.py says so.
    """
    path = find_description()
    sent = [request for request in requests if request["user_agent"].startswith(USER_AGENT)]
    if path is not None and sent:
        violations = PinterestDescription.read(path).find_violations(sent)
        assert not violations, "\n".join(violations)


def require_description() -> Path:
    """Skips the test where the description is not at hand."""
    path = find_description()
    if path is None:
        pytest.skip(
            "NOT RUN: Pinterest's official description is not at hand. Set "
            f"{VARIABLE} to its file: https://github.com/pinterest/api-description"
        )
    return path


class PinterestDescription:
    """Knows the operations of the description and the schemas of their requests."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._components = _allow_null(document["components"])
        self._operations = {
            (method.upper(), path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method != "parameters"
        }

    @classmethod
    def read(cls, path: Path) -> "PinterestDescription":
        return cls(json.loads(path.read_text(encoding="utf-8")))

    @property
    def operation_names(self) -> set[str]:
        return {operation["operationId"] for operation in self._operations.values()}

    def find_violations(self, requests: Iterable[Mapping[str, Any]]) -> list[str]:
        """Checks requests of `GET /_simulator/requests`, without those that faults cut."""
        return [
            f"{request['method']} {request['path']}: {violation}"
            for request in requests
            for violation in self._check(request)
        ]

    def _check(self, request: Mapping[str, Any]) -> list[str]:
        found = self._find_operation(request["method"], request["path"])
        if found is None:
            return ["the description has no such operation"]
        operation, path_values = found
        return [
            *self._check_parameters(operation, "path", path_values),
            *self._check_parameters(operation, "query", request["query"]),
            *self._check_body(operation, request),
        ]

    def _find_operation(
        self, method: str, path: str
    ) -> tuple[Mapping[str, Any], dict[str, str]] | None:
        parts = path.removeprefix(API_PREFIX).split("/")
        for (operation_method, template), operation in self._operations.items():
            names = template.split("/")
            if (
                operation_method == method
                and len(names) == len(parts)
                and all(
                    name == part or name[:1] == "{" for name, part in zip(names, parts, strict=True)
                )
            ):
                values = {
                    name.strip("{}"): part
                    for name, part in zip(names, parts, strict=True)
                    if name[:1] == "{"
                }
                return operation, values
        return None

    def _check_parameters(
        self, operation: Mapping[str, Any], place: str, values: Mapping[str, str]
    ) -> Iterable[str]:
        declared = {
            parameter["name"]: parameter["schema"]
            for parameter in map(self._resolve, operation.get("parameters", []))
            if parameter["in"] == place
        }
        for name, value in values.items():
            if name not in declared:
                yield f"unknown parameter {name}"
            else:
                yield from self._validate(declared[name], _convert(value, declared[name]), name)

    def _check_body(
        self, operation: Mapping[str, Any], request: Mapping[str, Any]
    ) -> Iterable[str]:
        described = operation.get("requestBody")
        body = request["body"]
        if described is None:
            return [] if body is None else ["a body where the description has none"]
        if not isinstance(body, Mapping):
            return ["a body is missing"]
        media_type = str(request["content_type"]).partition(";")[0]
        if media_type not in described["content"]:
            return [f"the content type {media_type}"]
        schema = self._choose_variant(described["content"][media_type]["schema"], body)
        extra = UNDESCRIBED_FIELDS.get(operation["operationId"], set())
        unknown = body.keys() - self._list_properties(schema, body) - extra
        return [
            *(f"unknown field {name}" for name in sorted(unknown)),
            *self._validate(schema, body, "body"),
        ]

    def _choose_variant(self, schema: Mapping[str, Any], body: Mapping[str, Any]) -> Any:
        """Follows the discriminator of a schema, which a JSON Schema validator ignores."""
        resolved = self._resolve(schema)
        discriminator = resolved.get("discriminator")
        if discriminator is None or "oneOf" in resolved:
            return schema
        return {"$ref": discriminator["mapping"].get(body.get(discriminator["propertyName"]), "")}

    def _list_properties(self, schema: Mapping[str, Any], body: Mapping[str, Any]) -> set[str]:
        resolved = self._resolve(schema)
        names = set(resolved.get("properties", {}))
        for part in resolved.get("allOf", []):
            names |= self._list_properties(part, body)
        return names

    def _resolve(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in value:
            return value
        target: Any = self._document
        for name in value["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return self._resolve(target)

    def _validate(self, schema: Any, value: Any, place: str) -> Iterable[str]:
        whole = {**_allow_null(schema), "components": self._components}
        for error in Draft202012Validator(whole).iter_errors(value):
            yield f"{place}{error.json_path[1:]}: {error.message[:200]}"


def _convert(value: str, schema: Mapping[str, Any]) -> Any:
    """Reads a query parameter's text as the type of its schema."""
    match schema.get("type"):
        case "integer":
            return int(value) if value.isascii() and value.isdigit() else value
        case "boolean":
            return {"true": True, "false": False}.get(value, value)
        case "array":
            return value.split(",")
        case _:
            return value


def _allow_null(schema: Any) -> Any:
    """Rewrites `nullable` of OpenAPI 3.0 as JSON Schema, everywhere in a schema."""
    if isinstance(schema, list):
        return [_allow_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rewritten = {name: _allow_null(part) for name, part in schema.items()}
    if rewritten.pop("nullable", None) is True:
        return {"anyOf": [rewritten, {"type": "null"}]}
    return rewritten
