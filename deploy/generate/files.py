"""Builds and writes the files that are generated from the code. A test compares them."""

from pathlib import Path

from deploy.generate import api, error_page, events, metrics, openapi, routes, settings, topics
from deploy.generate.text import to_json

ROOT = Path(__file__).parents[2]
OPENAPI = Path("deploy/gateway/openapi.json")
"""The gateway serves it as /openapi.json."""
ERRORS = Path("deploy/gateway/errors.html")
"""The gateway serves it as /docs/errors."""
ROUTES = Path("deploy/gateway/routes.caddyfile")
REFERENCE = Path("docs/reference")


def build_files() -> dict[Path, str]:
    """Builds the text of every generated file, by its path in the checkout."""
    document = openapi.build_document()
    return {
        OPENAPI: to_json(document),
        ERRORS: error_page.build_page(),
        ROUTES: routes.build_routes(),
        REFERENCE / "api.md": api.build_page(document),
        REFERENCE / "settings.md": settings.build_page(),
        REFERENCE / "metrics.md": metrics.build_page(),
        REFERENCE / "topics.md": topics.build_page(),
        **events.build_schemas(),
    }


def write() -> None:
    for path, text in build_files().items():
        (ROOT / path).write_text(text, encoding="utf-8")
