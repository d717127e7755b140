"""Lists every file that is generated from the code. A test compares them with what is committed."""

from pathlib import Path

from deploy.generate import configuration, events, openapi, routes
from deploy.generate.text import to_json

ROOT = Path(__file__).parents[2]
OPENAPI = Path("deploy/gateway/openapi.json")
"""The gateway answers it under /openapi.json."""
ROUTES = Path("deploy/gateway/routes.caddyfile")
CONFIGURATION = Path("docs/reference/settings.md")


def build_files() -> dict[Path, str]:
    """Returns the text of every generated file, by its path in the checkout."""
    return {
        OPENAPI: to_json(openapi.build_document()),
        ROUTES: routes.build_routes(),
        CONFIGURATION: configuration.build_page(),
        **events.build_schemas(),
    }


def write() -> None:
    for path, text in build_files().items():
        (ROOT / path).write_text(text, encoding="utf-8")
