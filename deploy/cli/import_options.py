"""Defines the options that pinflow import and pinflow check share, and reads the file by them."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from deploy.cli.exit_codes import fail
from deploy.cli.portion_sender import ImportOptions
from deploy.cli.portions import RowSource, split_csv, split_json
from deploy.cli.source_file import Format, SourceFile, read_source_file
from deploy.cli.tables import printable
from deploy.cli.wording import name_options
from shared.contract.errors import ApiError
from shared.contract.events import OnExisting
from shared.contract.time_zones import load_zone


class PastChoice(StrEnum):
    """Treatments of rows whose `run_at` has passed."""

    PUBLISH = "publish"
    FAIL = "fail"


FileName = Annotated[
    str, typer.Argument(help="A .json or .csv file with the rows, or - for standard input.")
]
FileFormat = Annotated[
    Format | None,
    typer.Option("--format", help="The file's format. Default: by the extension of its name."),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="The time zone of times without an offset, for example Europe/Berlin.",
    ),
]
Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        metavar="NAME",
        help="The account of rows that name none, by its name or its id.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="The encoding of a CSV file, for example windows-1251. Default: found out.",
    ),
]
Existing = Annotated[
    OnExisting,
    typer.Option(
        "--on-existing",
        help="What a row does whose key already has a pin. report: nothing. update: gives a pin "
        "that is not published yet the row's content and time. revive: publishes anew what was "
        "deleted or canceled.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Fail rows with unknown fields. Default: ignore these fields."),
]


class ImportFile(NamedTuple):
    """A file, its rows, and the options by which Pinflow reads them."""

    file: SourceFile
    source: RowSource
    zone: ZoneInfo | None
    parameters: Mapping[str, str]
    encoding: str | None

    def build_options(self, **parameters: str | None) -> ImportOptions:
        """Builds the options of the imports. Parameters that are None are left out."""
        more = {name: value for name, value in parameters.items() if value is not None}
        return ImportOptions({**self.parameters, **more}, self.encoding)


def read_import_file(
    name: str,
    *,
    file_format: Format | None,
    timezone: str | None,
    account: str | None,
    encoding: str | None,
    on_existing: OnExisting,
    strict: bool,
) -> ImportFile:
    """Reads and splits the file. Ends the command if it, or an option, can't be used."""
    zone = _load_zone(timezone)
    file = read_source_file(name, file_format)
    if encoding and file.format is Format.JSON:
        fail("--encoding is for CSV files: JSON is always UTF-8. Leave it out.")
    parameters = {
        "strict": "true" if strict else None,
        "timezone": timezone,
        "account": account,
        "on_existing": None if on_existing is OnExisting.REPORT else on_existing.value,
    }
    return ImportFile(
        file,
        split(file, encoding, has_account=account is not None, zone=zone),
        zone,
        {name: value for name, value in parameters.items() if value},
        encoding,
    )


def split(
    file: SourceFile, encoding: str | None, *, has_account: bool, zone: ZoneInfo | None = None
) -> RowSource:
    """Splits a file into rows. Ends the command if no import can have it."""
    try:
        if file.format is Format.JSON:
            return split_json(file.data)
        now = datetime.now(UTC)
        return split_csv(file.data, encoding, now, zone, has_account=has_account)
    except ApiError as error:
        fail(f"{printable(name_options(error.message))} ({error.code})")


def format_command(command: str, file: str, parameters: Mapping[str, str]) -> str:
    """Returns the command line that reads a file by the parameters of an import."""
    words = ["pinflow", command, file]
    for name, option in _OPTIONS.items():
        if name in parameters:
            words += [option, parameters[name]]
    if parameters.get("strict"):
        words.append("--strict")
    return shlex.join(words)


_OPTIONS = {
    "timezone": "--timezone",
    "account": "--account",
    "past_run_at": "--past",
    "on_existing": "--on-existing",
}
"""The options of parameters that have a value."""


def _load_zone(name: str | None) -> ZoneInfo | None:
    try:
        return load_zone(name, parameter="--timezone") if name is not None else None
    except ApiError as error:
        fail(error.message)
