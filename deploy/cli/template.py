"""The command `pinflow template`: writes a CSV file to start from, with the workspace's own ids."""

import csv
import io
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from itertools import cycle, islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn
from zoneinfo import ZoneInfo

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.exit_codes import fail
from deploy.cli.options import DEFAULT_URL, ApiKey, BaseUrl, MaxRetrySeconds
from deploy.cli.placeholder import PLACEHOLDER
from deploy.cli.tables import print_table
from shared.contract.errors import ApiError
from shared.contract.pins import PinSubmission
from shared.contract.time_zones import load_zone

commands = typer.Typer()

BYTE_ORDER_MARK = "\ufeff"
EXAMPLE_ROWS = 3
EXAMPLE_HOUR = 9
DAYS_UNTIL_EXAMPLE = 30
OPTIONAL_EXAMPLES = {
    "alt_text": "What the image shows",
    "link_url": "https://www.example.com/product",
    "related_terms": "oak shelf, hallway",
    "dominant_color": "#6E7874",
}
"""Values of optional columns, in the first example row."""
FIRST_COLUMNS = ("account_id", "board_id", "title", "image_url", "run_at", "idempotency_key")
FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet program would run as a formula."""


class Delimiter(StrEnum):
    COMMA = ","
    SEMICOLON = ";"
    TAB = "tab"

    @property
    def character(self) -> str:
        return "\t" if self is Delimiter.TAB else str(self)


class TemplateBoard(NamedTuple):
    account_id: str
    account_name: str
    board_id: str
    name: str
    is_unique: bool
    """No other board of the account can be meant by this name."""

    @property
    def cell(self) -> str:
        """The text that names the board in a row.

        It is the name, where it is clear: spreadsheet programs keep only 15 digits of an id.
        """
        is_safe = self.is_unique and not self.name.startswith(FORMULA_BEGINNINGS)
        return self.name if is_safe else self.board_id


@commands.command("template")
def write_template(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to this file. Default, or -: to standard output."),
    ] = None,
    timezone: Annotated[
        str,
        typer.Option(metavar="ZONE", help="The time zone of run_at, for example Europe/Berlin."),
    ] = "UTC",
    delimiter: Annotated[
        Delimiter,
        typer.Option(help='The character between cells. Excel in German and French needs ";".'),
    ] = Delimiter.COMMA,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file, if it exists.")
    ] = False,
) -> None:
    """Write a CSV file to start from, with all columns and the accounts and boards of your key.

    Replace the example rows with your own pins, save the file as CSV UTF-8, and
    import it with: pinflow import FILE

    Importing the file as it is publishes nothing: the image_url of an example
    row is not an address, so the row fails and uses no idempotency key. A row
    that you forget to replace fails in the same way, instead of being published
    later. Its run_at lies a month ahead: a row that you complete is scheduled,
    and you can still cancel it with pinflow schedules cancel.

    Boards are given by their names where these are unique, because spreadsheets
    shorten ids of 18 digits. All ids and names are listed on standard error.

    Exit codes:
    0: the template was written
    2: the key sees no board, or the file exists; nothing was written
    3: a server did not answer; try again
    """
    try:
        zone = load_zone(timezone, parameter="--timezone")
    except ApiError as error:
        fail(error.message)
    if output == Path("-"):
        output = None
    if output is not None and output.exists() and not force:
        _fail_for_existing(output)
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        boards = read_boards(client)
    if not boards:
        fail(
            "Your API key sees no account with a board, so there is nothing to publish to. Connect "
            "an account to Pinterest with: pinflow accounts connect. Without Pinterest, an "
            "operator adds them with: pinflow accounts add, pinflow boards add"
        )
    content = build_template(boards, zone, datetime.now(UTC), delimiter.character)
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _write(output, content, force=force)
    print_table(
        ["account_id", "account", "board_id", "board"],
        [[board.account_id, board.account_name, board.board_id, board.name] for board in boards],
        is_error=True,
    )
    if output is not None:
        typer.echo(
            f"Wrote {output}. Replace its example rows with your pins, then run: pinflow check "
            f"{output}",
            err=True,
        )


def read_boards(client: PinflowClient) -> list[TemplateBoard]:
    """Reads the boards of all accounts to which the API key can publish."""
    boards: list[TemplateBoard] = []
    for account in client.read("/v1/pinterest/accounts"):
        if account["revoked_at"] is not None:
            continue
        found = client.read("/v1/pinterest/boards", {"account_id": account["id"]})
        boards += _name_boards(account, found)
    return boards


def _name_boards(account: dict[str, Any], boards: Sequence[dict[str, Any]]) -> list[TemplateBoard]:
    counts = Counter(board["name"].casefold() for board in boards)
    ids = {board["id"] for board in boards}
    account_name = account["display_name"] or account["username"] or ""
    return [
        TemplateBoard(
            account["id"],
            account_name,
            board["id"],
            board["name"],
            is_unique=counts[board["name"].casefold()] == 1
            and board["name"] == board["name"].strip()
            and board["name"] not in ids
            and not board["name"].isdigit(),
        )
        for board in boards
    ]


def build_template(
    boards: Sequence[TemplateBoard], zone: ZoneInfo, now: datetime, delimiter: str
) -> bytes:
    """Builds the file as Excel reads it: with a byte order mark and the line ends of Windows."""
    others = [name for name in PinSubmission.model_fields if name not in FIRST_COLUMNS]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, [*FIRST_COLUMNS, *others], restval="", delimiter=delimiter)
    writer.writeheader()
    # Keys differ between templates. Otherwise a completed row of the second one would be existing
    token = secrets.token_hex(3)
    for number, board in enumerate(_choose_boards(boards), 1):
        writer.writerow(_build_example(number, board, zone, now, token))
    return (BYTE_ORDER_MARK + buffer.getvalue()).encode()


def _choose_boards(boards: Sequence[TemplateBoard]) -> Iterator[TemplateBoard]:
    """Chooses the boards of the example rows: of each account one, as far as there are enough."""
    by_account: dict[str, list[TemplateBoard]] = {}
    for board in boards:
        by_account.setdefault(board.account_id, []).append(board)
    in_turn = [board for boards in zip_longest(*by_account.values()) for board in boards if board]
    return islice(cycle(in_turn), EXAMPLE_ROWS)


def _build_example(
    number: int, board: TemplateBoard, zone: ZoneInfo, now: datetime, token: str
) -> dict[str, str]:
    day = now.astimezone(zone).date() + timedelta(days=DAYS_UNTIL_EXAMPLE + number)
    run_at = datetime.combine(day, time(EXAMPLE_HOUR), zone)
    required = {
        "account_id": board.account_id,
        "board_id": board.cell,
        "title": f"Example {number}",
        "image_url": PLACEHOLDER,
        "run_at": run_at.isoformat().replace("+00:00", "Z"),
        "idempotency_key": f"example-{token}-{number}",
        "description": f"For the board {board.name} ({board.board_id}) of the account "
        f"{board.account_name} ({board.account_id})",
    }
    return required | (OPTIONAL_EXAMPLES if number == 1 else {})


def _fail_for_existing(output: Path) -> NoReturn:
    fail(f"{output} exists, and nothing was written. Choose another name, or add --force.")


def _write(output: Path, content: bytes, *, force: bool) -> None:
    try:
        with output.open("wb" if force else "xb") as file:
            file.write(content)
    except FileExistsError:
        _fail_for_existing(output)
    except OSError as error:
        fail(f"Can't write {output}: {error.strerror}. Check the path and its permissions.")
