"""Generates docs/reference/settings.md from the fields and docstrings of the settings."""

import ast
import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings

from deploy.service_settings import find_settings
from deploy.services import SERVICES, WORKERS
from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from services.publisher.delivery.media.config import MediaSettings
from shared.pinterest.settings import (
    PinterestApiSettings,
    PinterestModeSettings,
    PinterestSettings,
)
from shared.runtime.settings import (
    PREFIX,
    DatabaseSettings,
    KafkaSettings,
    ListSettings,
    PublisherUrlSettings,
    ServiceSettings,
    UploadSettings,
)

MEBIBYTE = 1024 * 1024


class Group(NamedTuple):
    """The settings that a class adds to the inherited ones."""

    title: str
    settings: type[BaseSettings]
    readers: str


GROUPS = (
    Group(
        "Kafka",
        KafkaSettings,
        "`pinflow topics`, `pinflow dead-letters`, `pinflow recover`, all services except access.",
    ),
    Group("Postgres", DatabaseSettings, "all services, and `pinflow` commands for operators."),
    Group("Every service", ServiceSettings, "all services."),
    Group("Lists", ListSettings, "publisher, status."),
    Group(
        "Publisher's address",
        PublisherUrlSettings,
        "access, ingest, status. Give all the same value.",
    ),
    Group(
        "Pinterest's mode",
        PinterestModeSettings,
        "access, publisher, delivery, status. Give all the same value.",
    ),
    Group(
        "Pinterest's API",
        PinterestApiSettings,
        "access, delivery. Give both the same values.",
    ),
    Group("Pinterest", PinterestSettings, "access."),
    Group(
        "Limits of deliveries",
        DeliveryLimitSettings,
        "publisher, delivery. Give both the same values.",
    ),
    Group("Media of deliveries", MediaSettings, "delivery."),
    Group("Uploads", UploadSettings, "ingest, status. Give both the same value."),
    *(Group(name.capitalize(), find_settings(name), f"{name}.") for name in SERVICES),
    *(
        Group(name.capitalize(), find_settings(name), f"`python -m {worker.module}`.")
        for name, worker in WORKERS.items()
    ),
)

INTRODUCTION = """\
# Settings

After this page you can set every environment variable of Pinflow. A service does not start if a
value is invalid, and its error names the setting. Unknown variables are ignored, and logged as
warnings if they are nearly settings. Settings that depend on each other are explained in [Run in
production](../how-to/run-in-production.md). `make schemas` generates this page from the code.

`make up` ignores the settings in your shell except `PINFLOW_HOME`: it chooses ports, addresses and
passwords itself. To change another setting of the services or of the gateway, add a line NAME=value
to the file `.pinflow/settings` and run `make down && make up`. A line that begins with `#` is a
comment. `make up` refuses a file with an unknown name or a wrong value, and starts nothing. With
`make up PINTEREST=simulated` it also chooses the app at Pinterest, and delivers faster than by
default. Own settings of an app need `make up PINTEREST=off`.
"""

UPSTREAMS = ", ".join(f"`{service.upstream_variable}`" for service in SERVICES.values())
PASSWORDS = ", ".join(f"`{service.password_variable}`" for service in SERVICES.values())
GATEWAY = (
    (
        "`PINFLOW_GATEWAY_PORT`, `PINFLOW_GATEWAY_BIND`",
        "required",
        "The port and the address at which the gateway listens.",
    ),
    (
        "`PINFLOW_GATEWAY_DOCUMENTS`",
        "required",
        "The folder with openapi.json and errors.html: deploy/gateway.",
    ),
    (
        UPSTREAMS,
        "required",
        "The address of each service as host:port. Separate several replicas by spaces.",
    ),
    (
        "`PINFLOW_GATEWAY_READ_HEADER`",
        "10s",
        "The timeout for receiving a request's headers.",
    ),
    (
        "`PINFLOW_GATEWAY_READ_BODY`",
        "30s",
        "The timeout for receiving headers and body. Keep it above `PINFLOW_BODY_SECONDS`.",
    ),
    (
        "`PINFLOW_GATEWAY_WRITE`",
        "60s",
        "The timeout for the whole response. Keep it above the 30 s of `Prefer: wait=30`.",
    ),
    (
        "`PINFLOW_GATEWAY_IDLE`",
        "75s",
        "The time for which an idle connection stays open for the next request.",
    ),
)
COMMANDS = (
    (
        "`PINFLOW_BASE_URL`, `PINFLOW_API_KEY`",
        "from `.pinflow/env` in a checkout; otherwise `http://127.0.0.1:8080` and no key",
        (
            "The URL and the API key for the commands on imports, pins and schedules, and for "
            "`pinflow accounts connect`, `refresh` and `disconnect`, which use the key's workspace."
        ),
    ),
    (
        "`PINFLOW_WORKSPACE_ID`",
        "from `.pinflow/env`, in a checkout",
        (
            "The workspace for `pinflow keys`, `pinflow boards` and the other commands of `pinflow "
            "accounts`, also for `connect --app-owner`."
        ),
    ),
    (
        PASSWORDS,
        "none; in docker-compose.yml the service's name",
        "The passwords of the services' database roles. `pinflow migrate` sets them.",
    ),
    (
        "`PINFLOW_OWNER_PASSWORD`",
        "pinflow",
        "The password of the database's owner, for docker-compose.yml.",
    ),
    (
        "`PINFLOW_HOME`",
        "`.pinflow` in the checkout",
        "The folder with the data, logs and settings of the local stack.",
    ),
)
"""Variables that are not fields of a settings class: name, default and meaning."""


def build_page() -> str:
    """Builds the text of the page."""
    return "\n".join(
        [
            INTRODUCTION,
            *(_settings_section(group) for group in GROUPS),
            _section("Gateway", "deploy/gateway/Caddyfile.", GATEWAY),
            _section("Commands", "`pinflow`, `make up`, Docker Compose.", COMMANDS),
        ]
    )


def list_own_fields(settings: type[BaseSettings]) -> list[str]:
    """Lists the settings that the class itself declares."""
    return [name for name in settings.__annotations__ if name in settings.model_fields]


def read_docstrings(settings: type[BaseSettings]) -> dict[str, str]:
    """Reads the docstring below each field that the class declares.

    pydantic can read them too, but that would cost every start of a service 30 ms.
    """
    (class_definition,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(class_definition, ast.ClassDef)  # noqa: S101 - for mypy
    return {
        field.target.id: following.value.value
        for field, following in pairwise(class_definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and isinstance(following.value.value, str)
    }


def _settings_section(group: Group) -> str:
    properties = group.settings.model_json_schema()["properties"]
    docstrings = read_docstrings(group.settings)
    lines = [
        _line(name, properties[name], docstrings.get(name, ""))
        for name in list_own_fields(group.settings)
    ]
    head = [
        f"## {group.title}\n",
        f"Read by: {group.readers}\n",
        "| variable | value | default | meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _line(name: str, schema: dict[str, Any], docstring: str) -> str:
    meaning = " ".join(docstring.split()).replace("|", "\\|")
    variable = f"{PREFIX}{name.upper()}"
    return f"| `{variable}` | {_describe_values(schema)} | {_format_default(schema)} | {meaning} |"


def _section(title: str, readers: str, variables: Iterable[tuple[str, str, str]]) -> str:
    head = [
        f"## {title}\n",
        f"Read by: {readers}\n",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    lines = [f"| {' | '.join(variable)} |" for variable in variables]
    return "\n".join([*head, *lines]) + "\n"


def _describe_values(schema: dict[str, Any]) -> str:
    """Describes the type and the bounds of a setting."""
    (kind,) = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    name = {"integer": "integer", "number": "number", "boolean": "`true`, `false`"}.get(
        kind["type"], "text"
    )
    bounds = [
        f"{sign} {_format_number(kind[keyword])}"
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


def _format_default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if schema.get("format") == "password":
        return "not shown"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return _format_number(value) if isinstance(value, int | float) else f"`{value}`"


def _format_number(value: float) -> str:
    """Formats a number as a setting's value. Whole MiB are added in parentheses."""
    if value >= MEBIBYTE and value % MEBIBYTE == 0:
        return f"{int(value)} ({int(value) // MEBIBYTE} MiB)"
    return f"{int(value)}" if value == int(value) else f"{value:g}"
