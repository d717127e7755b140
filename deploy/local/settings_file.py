"""Reads `.pinflow/settings`, and refuses lines that would have no effect or stop a service."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from deploy.local.layout import LocalError
from deploy.service_settings import find_settings
from deploy.services import SERVICES, WORKERS
from shared.contract.field_names import suggest_field
from shared.runtime.settings import PREFIX, KafkaSettings, list_faults, name_variable

GATEWAY_SETTINGS = frozenset(
    {
        "PINFLOW_GATEWAY_READ_HEADER",
        "PINFLOW_GATEWAY_READ_BODY",
        "PINFLOW_GATEWAY_WRITE",
        "PINFLOW_GATEWAY_IDLE",
    }
)
_TOPICS = frozenset({"PINFLOW_TOPIC_PREFIX", "PINFLOW_TOPIC_PARTITIONS"})
_CONNECTION = frozenset(map(name_variable, KafkaSettings.model_fields)) - _TOPICS
"""The local broker has no TLS and no SASL."""
FIXED = frozenset(
    {
        *_CONNECTION,
        "PINFLOW_BASE_URL",
        "PINFLOW_DATABASE_URL",
        "PINFLOW_HOST",
        "PINFLOW_INSTALLATION",
        "PINFLOW_INTERNAL_TOKEN",
        "PINFLOW_PORT",
        *(service.url_variable for service in SERVICES.values()),
        *(worker.url_variable for worker in WORKERS.values()),
    }
)
"""Settings that `make up` chooses itself."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\"]|\s[#;]")
"""supervisor can't pass a quotation mark to a program, and takes the rest for a comment."""
_DURATION = re.compile(r"(\d+(\.\d+)?(ms|s|m|h))+")


class SettingsFile:
    """The variables of the file, by name, and the numbers of their lines."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Without a file there are no variables. Raises LocalError."""
        self._path = path
        self._lines: dict[str, int] = {}
        self._faults: list[str] = []
        self.values: dict[str, str] = {}
        """All variables: settings, and others such as PGPASSWORD."""
        for number, line in enumerate(self._read().splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                self._add(number, line)
        if self._faults:
            raise self._describe_faults()

    def check(
        self,
        environments: Mapping[str, Mapping[str, str]],
        chosen: Collection[str] = (),
        choice: str = "",
    ) -> None:
        """Raises LocalError if a name is no setting or if a service would refuse a value.

        `environments` has the variables of each service, by the service's name. Without it a
        service would end at its start, again and again. `chosen` are the settings that the option
        `choice` of `make up` chooses.
        """
        if not self.values:
            return
        for name in self.values:
            if name.upper() in chosen:
                self._add_fault(
                    name,
                    f"is chosen by make up {choice}. Remove the line, or use make up PINTEREST=off",
                )
        classes = {name: find_settings(name) for name in environments}
        known = {
            *map(name_variable, (field for each in classes.values() for field in each.model_fields))
        }
        for name in self.values:
            self._check_name(name, known | GATEWAY_SETTINGS)
            self._check_duration(name)
        for service, environment in environments.items():
            try:
                with service_environment(environment):
                    classes[service]()
            except ValidationError as error:
                for variable, message in list_faults(error):
                    self._add_fault(variable, message)
        if self._faults:
            raise self._describe_faults()

    @property
    def gateway_variables(self) -> dict[str, str]:
        """The gateway's settings, by their names in lower case and without PINFLOW_."""
        return {
            name.upper().removeprefix(PREFIX).lower(): value
            for name, value in self.values.items()
            if name.upper() in GATEWAY_SETTINGS
        }

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(
                f"{self._path} can't be read: {error}\nSave it as a text file in UTF-8."
            ) from None

    def _add(self, number: int, line: str) -> None:
        name, separator, value = (part.strip() for part in line.partition("="))
        if not separator or not _NAME.fullmatch(name):
            self._faults.append(f"line {number}: must have the form NAME=value")
        elif name.upper() in map(str.upper, self._lines):
            self._faults.append(f"line {number}: {name} is set twice")
        elif _UNUSABLE.search(value):
            self._faults.append(
                f'line {number}: {name}: must not contain a quotation mark ("), a control '
                "character, or a comment behind the value"
            )
        else:
            self._lines[name] = number
            self.values[name] = value

    def _check_name(self, name: str, known: Collection[str]) -> None:
        upper = name.upper()  # services ignore the case
        if upper in FIXED:
            self._add_fault(name, "is chosen by make up. Remove the line")
        elif upper not in known:
            prefixed = upper if upper.startswith(PREFIX) else f"{PREFIX}{upper}"
            suggestion = suggest_field(upper, known) or suggest_field(prefixed, known)
            if suggestion is not None:
                self._add_fault(name, f"is not a setting. Did you mean {suggestion}?")
            elif upper.startswith(PREFIX):
                self._add_fault(name, "is not a setting of the services")

    def _check_duration(self, name: str) -> None:
        # Caddy 2.11 exits without a message
        is_wrong = not _DURATION.fullmatch(self.values[name])
        if name.upper() in GATEWAY_SETTINGS and is_wrong:
            self._add_fault(name, "must be a duration such as 30s or 1m30s")

    def _add_fault(self, variable: str | None, message: str) -> None:
        lines = {name.upper(): number for name, number in self._lines.items()}
        line = lines.get((variable or "").upper())
        place = "" if line is None else f"line {line}: "
        fault = ": ".join(filter(None, (variable, message)))
        if f"{place}{fault}" not in self._faults:  # several services have the setting
            self._faults.append(f"{place}{fault}")

    def _describe_faults(self) -> LocalError:
        return LocalError(
            "\n  ".join([f"{self._path} can't be used:", *self._faults])
            + "\nNothing was started. Correct the file, then run make up again. All settings with "
            "their values: docs/reference/settings.md"
        )


def find_named_files(settings: Path, base: Path) -> set[Path]:
    """Returns the existing files that values name, also if other lines of the file are wrong.

    Relative paths start at `base`. A symbolic link is returned beside the file that it leads to.
    """
    with suppress(FileNotFoundError):
        lines = settings.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        paths = [base / line.partition("=")[2].strip() for line in lines]
        # Path.is_file raises an error if a value is too long for a path
        existing = [path for path in paths if os.path.isfile(path)]  # noqa: PTH113
        return {
            named
            for path in existing
            for named in (Path(os.path.abspath(path)), path.resolve())  # noqa: PTH100
        }
    return set()


@contextmanager
def service_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets the environment variables of a service in this process."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
