"""What the commands on dead letters print."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from deploy.cli.dead_letters.filters import histogram
from deploy.cli.dead_letters.model import StoredDeadLetter
from deploy.cli.tables import console, print_rows, print_table, printable

MAX_SHOWN_BYTES = 4000
"""Bytes of a value."""
HEX_LINE_BYTES = 32
LIST_COLUMNS = (
    "name",
    "given_up_at",
    "topic",
    "service",
    "code",
    "replays",
    "job_id",
    "row_number",
    "message",
)


def print_letters(letters: Sequence[StoredDeadLetter], *, shown: int, replayed: int) -> None:
    """Prints the first `shown` of them. `replayed` counts others, which are not among them."""
    more = f" {replayed} more were replayed before: --replayed shows them." if replayed else ""
    if letters:
        print_rows(
            [{name: letter.document()[name] for name in LIST_COLUMNS} for letter in letters[:shown]]
        )
    typer.echo(f"{summary(letters)}{more}")
    if len(letters) > shown:
        typer.echo(
            f"The first {shown} are shown; more with --limit, all in short with --histogram."
        )


def summary(letters: Sequence[StoredDeadLetter]) -> str:
    if not letters:
        return "No dead letters."
    reasons = Counter(letter.code or "no code" for letter in letters).most_common()
    return (
        f"{_count_letters(len(letters))}: "
        f"{', '.join(f'{count} {printable(code)}' for code, count in reasons)}."
    )


def print_histogram(groups: Sequence[Mapping[str, Any]]) -> None:
    if groups:
        print_rows(groups)
    else:
        typer.echo("No dead letters.")


def print_letter(
    letter: StoredDeadLetter, headers: Sequence[tuple[str, bytes]], key: bytes | None, value: bytes
) -> None:
    """Prints a dead letter, its headers and its bytes: as text if they are text, else in
    hexadecimal.
    """
    about = {name: told for name, told in letter.document().items() if told not in {None, ""}}
    came_with = {f"header {name}": format_bytes(header) for name, header in headers}
    rows = {**about, "key": format_bytes(key or b""), **came_with}
    print_table(["", ""], [[name, told] for name, told in rows.items()])
    typer.echo()
    typer.echo(format_value(value))
    if len(value) > MAX_SHOWN_BYTES:
        console().print(
            f"… {len(value) - MAX_SHOWN_BYTES} bytes more. All: pinflow dead-letters show "
            f"{letter.name} --raw > FILE",
            markup=False,
        )


def format_value(value: bytes) -> str:
    if not value:
        return "(no value)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        part = value[:MAX_SHOWN_BYTES]
        return "\n".join(
            part[start : start + HEX_LINE_BYTES].hex(" ", 2)
            for start in range(0, len(part), HEX_LINE_BYTES)
        )
    return "\n".join(printable(line) for line in text[:MAX_SHOWN_BYTES].split("\n"))


def format_bytes(value: bytes) -> str:
    """As text when it is, else in hexadecimal."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def print_plan(
    counts: Mapping[str, int], letters: Sequence[StoredDeadLetter], *, done: bool
) -> None:
    """What becomes, or became, of how many; before it is done also why they are here."""
    if not letters:
        typer.echo("No dead letters to replay.")
        return
    if not done:
        print_histogram(histogram(letters))
        typer.echo()
    typer.echo("Done:" if done else "To do:")
    for what, count in counts.items():
        typer.echo(f"  {count:>6}  {printable(what)}")


def _count_letters(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"
