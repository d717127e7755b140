"""Generates docs/reference/settings.md from the fields and docstrings of the settings."""

import ast
import inspect
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings

from deploy.generate.applications import find_settings
from deploy.services import SERVICES
from shared.runtime.settings import (
    DatabaseSettings,
    KafkaSettings,
    ListSettings,
    ServiceSettings,
    UploadSettings,
)

PREFIX = "PINFLOW_"
MEBIBYTE = 1024 * 1024


class Group(NamedTuple):
    """The settings that a class adds to those it inherits."""

    title: str
    settings: type[BaseSettings]
    readers: str


GROUPS = (
    Group(
        "Kafka",
        KafkaSettings,
        "All services but access, `pinflow topics`, `pinflow dead-letters`, `pinflow recover`.",
    ),
    Group(
        "Postgres", DatabaseSettings, "All services, and the commands of `pinflow` that administer."
    ),
    Group("Every service", ServiceSettings, "All services."),
    Group("Lists", ListSettings, "publisher, status."),
    Group("Uploads", UploadSettings, "ingest, status: the same value."),
    *(Group(name.capitalize(), find_settings(name), f"{name}.") for name in SERVICES),
)

INTRODUCTION = """\
# Configuration

This page lists every setting. All of them are environment variables. A service that finds a wrong
value ends at its start and names the setting; unknown variables are ignored. How settings belong
together: [Run in production](../how-to/run-in-production.md). The page is made from the code by
`make schemas`; a test compares.

`make up` takes no setting from your shell. It reads the services' settings from the file
`.pinflow/settings`, one NAME=value a line, when it starts them: after a change,
`make down && make up`. It chooses ports, addresses and passwords itself.
"""


UPSTREAMS = ", ".join(f"`{service.upstream_variable}`" for service in SERVICES.values())
PASSWORDS = ", ".join(f"`{service.password_variable}`" for service in SERVICES.values())


BY_HAND = f"""\
## Gateway

Read by deploy/gateway/Caddyfile. An upstream is one replica as host:port, or several, separated by
blanks.

| variable | default | |
|---|---|---|
| `PINFLOW_GATEWAY_PORT`, `PINFLOW_GATEWAY_BIND` | none: must be set | where it listens |
| `PINFLOW_GATEWAY_DOCUMENTS` | none: must be set | deploy/gateway: the files of /docs |
| {UPSTREAMS} | none: must be set | where the services are |
| `PINFLOW_GATEWAY_READ_HEADER` | 10s | how long a request's header may take to arrive |
| `PINFLOW_GATEWAY_READ_BODY` | 30s | header and body; above `PINFLOW_BODY_SECONDS` |
| `PINFLOW_GATEWAY_WRITE` | 60s | how long an answer may take; above the 30 of `Prefer: wait` |
| `PINFLOW_GATEWAY_IDLE` | 75s | how long a connection is kept for the next request |

## The command `pinflow`, migrations, compose

| variable | default | |
|---|---|---|
| `PINFLOW_BASE_URL`, `PINFLOW_API_KEY` | of `.pinflow/env`, in a checkout | `pinflow import` |
| `PINFLOW_WORKSPACE_ID` | of `.pinflow/env`, in a checkout | `pinflow keys`, `accounts`, `boards` |
| {PASSWORDS} | none | the services' roles: `pinflow migrate` |
| `PINFLOW_OWNER_PASSWORD` | pinflow | docker-compose.yml: the database's owner |
| `PINFLOW_HOME` | `.pinflow` of the checkout | where the local stack keeps everything |
"""


def build_page() -> str:
    return "\n".join([INTRODUCTION, *(_section(group) for group in GROUPS), BY_HAND])


def list_own_fields(settings: type[BaseSettings]) -> list[str]:
    """Returns the names of the settings that the class itself declares."""
    return [name for name in settings.__annotations__ if name in settings.model_fields]


def read_docstrings(settings: type[BaseSettings]) -> dict[str, str]:
    """Reads the docstring below each field that the class declares.

    pydantic could read them too, but at every start of a service, in 30 ms.
    """
    (declared,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(declared, ast.ClassDef)  # noqa: S101 - to mypy
    return {
        field.target.id: below.value.value
        for field, below in pairwise(declared.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _section(group: Group) -> str:
    properties, told = (
        group.settings.model_json_schema()["properties"],
        read_docstrings(group.settings),
    )
    lines = [
        _line(name, properties[name], told.get(name, ""))
        for name in list_own_fields(group.settings)
    ]
    head = [
        f"## {group.title}\n",
        f"Read by: {group.readers}\n",
        "| variable | value | default | |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _line(name: str, schema: dict[str, Any], docstring: str) -> str:
    what = " ".join(docstring.split()).replace("|", "\\|")
    return f"| `{PREFIX}{name.upper()}` | {_value(schema)} | {_default(schema)} | {what} |"


def _value(schema: dict[str, Any]) -> str:
    """Describes the permitted values, as far as the schema tells."""
    (kind,) = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if "enum" in kind:
        return ", ".join(f"`{one}`" for one in kind["enum"])
    name = {"integer": "integer", "number": "number", "boolean": "`true`, `false`"}.get(
        kind["type"], "text"
    )
    bounds = [
        f"{sign} {_figure(kind[keyword])}"
        for keyword, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if keyword in kind
    ]
    if "pattern" in kind:
        bounds.append(f"`{kind['pattern']}`")
    return " ".join([name, ", ".join(bounds)]).strip()


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if schema.get("format") == "password":
        return "not shown"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return _figure(value) if isinstance(value, int | float) else f"`{value}`"


def _figure(value: float) -> str:
    """Writes a number as a setting's value. Whole MiB are added in parentheses."""
    if value >= MEBIBYTE and value % MEBIBYTE == 0:
        return f"{int(value)} ({int(value) // MEBIBYTE} MiB)"
    return f"{int(value)}" if value == int(value) else f"{value:g}"
