"""Generates one OpenAPI document for all services. The gateway serves it as /openapi.json."""

from typing import Any, cast

from fastapi.openapi.utils import get_openapi

from deploy.generate.applications import create_applications
from deploy.generate.examples.builder import add_examples
from deploy.generate.text import join_descriptions
from shared.http.app import VERSION

DESCRIPTION = """\
Import up to 500 pins in one request, as JSON or CSV. The answer is a job; poll it for the result of
each row: `created`, `existing` or `failed` with the reason. Each idempotency key is published once,
even if you send it many times. The API is wire-compatible with PinBridge.

Authenticate with the header `X-API-Key: KEY` or `Authorization: Bearer KEY`.

Errors are `{"detail": {"code": "…", "message": "…"}}`. Every response has an `X-Request-ID`:
include it in support requests. Operations of PinBridge that Pinflow does not support answer 501
`not_supported` and name an alternative.
"""

TAGS = {
    "imports": "Import up to 500 pins in one request, as JSON or CSV, and read each row's result.",
    "pins": "Publish pins one by one or in batches; read, edit, retry and delete them.",
    "jobs": "Read the state of publishing a single pin, in PinBridge's format.",
    "schedules": "Schedule pins for a later time; change, cancel, retry and delete schedules.",
    "pinterest": "Manage the Pinterest accounts and boards of a workspace.",
    "api-keys": "Manage API keys. A key's scopes and accounts limit its use.",
    "webhooks": "Receive events as signed HTTP requests to your URL.",
    "rate-meter": "Read how many rows a workspace may send right now.",
    "system": "Check whether Pinflow is up and ready. No API key is needed.",
}
"""The tags with their descriptions, in the order of the document."""

ACRONYMS = {"api": "API", "csv": "CSV", "json": "JSON"}
"""Words of operation ids that titles write in another way."""


def build_document() -> dict[str, Any]:
    """Merges the OpenAPI documents of all services.

    Raises ValueError if two services have different definitions with the same name.
    """
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Pinflow", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": {},
        "webhooks": {},
        "components": {},
    }
    for app in create_applications().values():
        document = get_openapi(
            title=app.title,
            version=VERSION,
            routes=app.routes,
            webhooks=app.webhooks.routes,
        )
        _move_bodies_to_components(document)
        _remove_titles_of_fields(document)
        _remove_repeated_descriptions(document)
        _merge(merged, document)
    for operation in find_operations(merged):
        operation["summary"] = _build_title(operation["operationId"])
    merged["paths"] = dict(sorted(merged["paths"].items(), key=_tag_position))
    merged["components"] = {
        kind: dict(sorted(components.items())) for kind, components in merged["components"].items()
    }
    add_examples(merged)
    return cast("dict[str, Any]", join_descriptions(merged))


def find_operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all operations, also the requests that webhooks send."""
    return [
        operation
        for section in ("paths", "webhooks")
        for methods in document.get(section, {}).values()
        for operation in methods.values()
    ]


def _build_title(operation_id: str) -> str:
    """Builds a title for people: `import_csv` becomes "Import CSV"."""
    words = [ACRONYMS.get(word, word) for word in operation_id.split("_")]
    return " ".join([words[0].capitalize(), *words[1:]])


def _move_bodies_to_components(document: dict[str, Any]) -> None:
    """Gives the bodies that endpoints describe themselves a name, which generated clients use."""
    components = document["components"].setdefault("schemas", {})
    for operation in find_operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            content["schema"] = _move_to_components(content["schema"], components)
        for response in operation["responses"].values():
            for kind, content in response.get("content", {}).items():
                if kind != "application/json":  # FastAPI names those
                    content["schema"] = _move_to_components(content["schema"], components)


def _move_to_components(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Moves a schema with a title, and its definitions. Returns the reference to it."""
    if "anyOf" in schema:
        return {"anyOf": [_move_to_components(part, components) for part in schema["anyOf"]]}
    if "title" not in schema:
        return schema
    definitions = schema.pop("$defs", {})
    for name, definition in (*definitions.items(), (schema["title"], schema)):
        if components.setdefault(name, definition) != definition:
            raise ValueError(f"Two bodies have different schemas with the title {name}")
    return {"$ref": f"#/components/schemas/{schema['title']}"}


def _remove_titles_of_fields(node: Any) -> None:
    """Removes the titles that pydantic makes from names: "Job Id" says no more than job_id."""
    if isinstance(node, list):
        for item in node:
            _remove_titles_of_fields(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "properties":
                for schema in value.values():
                    schema.pop("title", None)
            elif key == "schema":
                value.pop("title", None)
            _remove_titles_of_fields(value)


def _remove_repeated_descriptions(document: dict[str, Any]) -> None:
    """Removes the descriptions that FastAPI writes to a parameter and again to its schema."""
    for operation in find_operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["schema"].get("description") == parameter.get("description"):
                parameter["schema"].pop("description", None)


def _tag_position(item: tuple[str, dict[str, Any]]) -> int:
    """Returns the position of the path's tag.

    It does not depend on the service, so the document stays the same if a path moves to another
    service.
    """
    _, operations = item
    (tag,) = {operation["tags"][0] for operation in operations.values()}
    return list(TAGS).index(tag)


def _merge(merged: dict[str, Any], document: dict[str, Any]) -> None:
    for section in ("paths", "webhooks"):
        for path, operations in document.get(section, {}).items():
            _add(merged[section].setdefault(path, {}), operations, path)
    for kind, components in document.get("components", {}).items():
        _add(merged["components"].setdefault(kind, {}), components, kind)


def _add(target: dict[str, Any], new: dict[str, Any], location: str) -> None:
    for name, value in new.items():
        if target.setdefault(name, value) != value:
            raise ValueError(f"{location}: two services have different definitions of {name}")
