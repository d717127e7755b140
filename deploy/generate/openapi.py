"""Generates one OpenAPI document for all services. The gateway serves it as /openapi.json."""

from typing import Any, cast

from fastapi.openapi.utils import get_openapi

from deploy.generate.applications import create_applications
from deploy.generate.examples import add_examples
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
        "components": {},
    }
    for app in create_applications().values():
        _merge(merged, get_openapi(title=app.title, version=VERSION, routes=app.routes))
    merged["paths"] = dict(sorted(merged["paths"].items(), key=_tag_position))
    merged["components"] = {
        kind: dict(sorted(components.items())) for kind, components in merged["components"].items()
    }
    add_examples(merged)
    return cast("dict[str, Any]", join_descriptions(merged))


def _tag_position(item: tuple[str, dict[str, Any]]) -> int:
    """Returns the position of the path's tag.

    It does not depend on the service, so the document stays the same if a path moves to another
    service.
    """
    _, operations = item
    (tag,) = {operation["tags"][0] for operation in operations.values()}
    return list(TAGS).index(tag)


def _merge(merged: dict[str, Any], document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        _add(merged["paths"].setdefault(path, {}), operations, path)
    for kind, components in document.get("components", {}).items():
        _add(merged["components"].setdefault(kind, {}), components, kind)


def _add(target: dict[str, Any], new: dict[str, Any], location: str) -> None:
    for name, value in new.items():
        if target.setdefault(name, value) != value:
            raise ValueError(f"{location}: two services have different definitions of {name}")
