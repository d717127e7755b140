"""Builds the example of each body from its schema and the values of its fields."""

from typing import Any

from deploy.generate.examples.errors import ERRORS, OPERATION_ERRORS
from deploy.generate.examples.values import MODEL_VALUES, OPERATION_VALUES, TEXTS, VALUES

EMPTY = {"integer": 0, "null": None}
"""The values of types that need no better example."""
WITHOUT_EXAMPLE = {"multipart/form-data"}
"""Content types without examples: /docs then shows how to send a file."""
ERROR_RESPONSE = {"$ref": "#/components/schemas/ErrorResponse"}


def add_examples(document: dict[str, Any]) -> None:
    """Adds the examples to an OpenAPI document.

    Raises ValueError for a field that needs a value in VALUES or MODEL_VALUES.
    """
    builder = ExampleBuilder(document["components"]["schemas"])
    for operations in document["paths"].values():
        for operation in operations.values():
            values = OPERATION_VALUES.get(operation["operationId"], {})
            errors = ERRORS | OPERATION_ERRORS.get(operation["operationId"], {})
            for content in _find_contents(operation.get("requestBody", {})):
                content["example"] = _remove_nulls(builder.build_body(content["schema"], values))
            for status, response in operation["responses"].items():
                for content in _find_contents(response):
                    if content["schema"] == ERROR_RESPONSE:
                        content["example"] = errors[int(status)]
                    elif status < "400":
                        content["example"] = builder.build_body(content["schema"], values)
    for webhook in document["webhooks"].values():
        values = OPERATION_VALUES.get(webhook["post"]["operationId"], {})
        for content in _find_contents(webhook["post"]["requestBody"]):
            content["example"] = builder.build_body(content["schema"], values)


def _find_contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = body.get("content", {}).items()
    return [content for kind, content in contents if kind not in WITHOUT_EXAMPLE]


def _remove_nulls(value: Any) -> Any:
    """Removes the fields that are null, which a request leaves out."""
    if isinstance(value, list):
        return [_remove_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _remove_nulls(part) for name, part in value.items() if part is not None}


class ExampleBuilder:
    """Builds the example of a schema from the values of its fields."""

    def __init__(self, schemas: dict[str, dict[str, Any]]) -> None:
        self._schemas = schemas

    def build_body(self, schema: dict[str, Any], values: dict[str, Any]) -> Any:
        """Builds the example of a body. `values` are those that this operation has of its own."""
        built = self._build(schema)
        return built if isinstance(built, str) else _merge(built, values)

    def _build(self, schema: dict[str, Any], model: str = "", field: str = "") -> Any:
        """Builds a value. `field` is its name, and `model` the schema that has the field."""
        if "$ref" in schema:
            model = schema["$ref"].rpartition("/")[2]
            return TEXTS.get(model) or self._build(self._schemas[model], model)
        if "properties" in schema:
            properties = schema["properties"].items()
            return {name: self._build_field(part, model, name) for name, part in properties}
        if "items" in schema:
            items = [self._build(schema["items"], model, field)]
            return items[: schema.get("maxItems")]
        if "anyOf" in schema and "default" not in schema:
            return self._build_union(schema["anyOf"], model, field)
        return _build_value(schema, f"{model}.{field}")

    def _build_union(self, parts: list[dict[str, Any]], model: str, field: str) -> Any:
        """Builds null for a field that can be null, unless it is an object with fields."""
        is_object = "properties" in self._schemas.get(
            parts[0].get("$ref", "").rpartition("/")[2], {}
        )
        is_null = field and {"type": "null"} in parts and not is_object
        return None if is_null else self._build(parts[0], model, field)

    def _build_field(self, schema: dict[str, Any], model: str, field: str) -> Any:
        own = MODEL_VALUES.get(model, {})
        if field in own:
            value = own[field]
            return _merge(self._build(schema, model, field), value) if has_parts(value) else value
        if field in VALUES and schema.get("type") != "null":
            return VALUES[field]
        return self._build(schema, model, field)


def _build_value(schema: dict[str, Any], location: str) -> Any:
    """Builds a value that has no parts."""
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema["type"] in EMPTY:
        return EMPTY[schema["type"]]
    raise ValueError(f"{location} needs an example in deploy/generate/examples/values.py")


def has_parts(value: Any) -> bool:
    """Returns whether a value is a list of objects, which replace some fields of built ones."""
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _merge(built: Any, values: Any) -> Any:
    """Replaces the fields of an object, or of the objects of a list, that `values` has."""
    if isinstance(built, list) and isinstance(values, dict):
        return [_merge(item, values) for item in built]
    if has_parts(values):
        return [_merge(built[0], item) for item in values]
    if not isinstance(built, dict) or not isinstance(values, dict):
        return values
    return {
        name: _merge(part, values[name]) if name in values else part for name, part in built.items()
    }
