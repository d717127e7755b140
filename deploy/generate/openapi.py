"""Generates one OpenAPI document of all services, which the gateway answers under /openapi.json."""

from typing import Any, cast

from fastapi.openapi.utils import get_openapi

from deploy.generate.applications import create_applications
from deploy.generate.examples import add_examples
from deploy.generate.text import join_descriptions
from shared.http.app import VERSION

DESCRIPTION = """\
Submit up to 500 pins as JSON or CSV, get a job back at once, and follow what becomes of every row:
`created`, `existing` or `failed`, and why. A key is published once, for ever, however often it is
submitted. Wire-compatible with PinBridge.

Errors are `{"detail": {"code": "…", "message": "…"}}`. Every answer has an `X-Request-ID`; say it
when you ask for help. What PinBridge has beyond this answers 501 `not_supported`, and what to do
instead.
"""

TAGS = {
    "imports": "Up to 500 pins at once, as JSON or CSV, and what became of each row.",
    "pins": "What is published, or failed: one by one, in batches, as a list.",
    "jobs": "The publishing of one pin, as PinBridge calls it.",
    "schedules": "Pins that are to be published later.",
    "pinterest": "The accounts and boards that a workspace publishes to.",
    "api-keys": "Who may do what: keys with scopes, and with the accounts they are for.",
    "webhooks": "Being told of what happens, by signed requests to an address of yours.",
    "rate-meter": "How much more a workspace may send right now.",
    "system": "Whether it runs. No key is needed.",
}
"""In the order of the document."""


def build_document() -> dict[str, Any]:
    """Merges the services' documents.

    Raises ValueError if two services describe different things by one name.
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
    merged["paths"] = dict(sorted(merged["paths"].items(), key=_place))
    merged["components"] = {
        kind: dict(sorted(components.items())) for kind, components in merged["components"].items()
    }
    add_examples(merged)
    return cast("dict[str, Any]", join_descriptions(merged))


def _place(item: tuple[str, dict[str, Any]]) -> int:
    """Returns the place of a path's tag. So a path keeps its place if another service takes it."""
    _, operations = item
    (tag,) = {operation["tags"][0] for operation in operations.values()}
    return list(TAGS).index(tag)


def _merge(merged: dict[str, Any], one: dict[str, Any]) -> None:
    for path, operations in one["paths"].items():
        _add(merged["paths"].setdefault(path, {}), operations, path)
    for kind, components in one.get("components", {}).items():
        _add(merged["components"].setdefault(kind, {}), components, kind)


def _add(into: dict[str, Any], new: dict[str, Any], where: str) -> None:
    for name, value in new.items():
        if into.setdefault(name, value) != value:
            raise ValueError(f"{where}: two services describe {name} differently")
