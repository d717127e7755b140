"""Prints dead letters and replay plans."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from deploy.cli.dead_letters.filters import build_histogram
from deploy.cli.dead_letters.model import StoredDeadLetter
from deploy.cli.tables import console, print_rows, print_table, printable

MAX_SHOWN_BYTES = 4000
"""Maximum bytes of a value that are shown."""
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


def print_letters(letters: Sequence[StoredDeadLetter], *, limit: int, replayed: int) -> None:
    """Prints the first `limit` dead letters and a summary of all.

    `replayed` is the number of dead letters that are left out because they were replayed before.
    """
    if letters:
        documents = [letter.document() for letter in letters[:limit]]
        print_rows([{name: document[name] for name in LIST_COLUMNS} for document in documents])
    more = f" {replayed} more were replayed before. Add --replayed to see them." if replayed else ""
    typer.echo(f"{summarize(letters)}{more}")
    if len(letters) > limit:
        typer.echo(
            f"Only the first {limit} are shown. See more with --limit, or counts with --histogram."
        )


def summarize(letters: Sequence[StoredDeadLetter]) -> str:
    if not letters:
        return "No dead letters."
    codes = Counter(letter.code or "no code" for letter in letters).most_common()
    return (
        f"{_count_letters(len(letters))}: "
        f"{', '.join(f'{count} {printable(code)}' for code, count in codes)}."
    )


def print_histogram(groups: Sequence[Mapping[str, Any]]) -> None:
    if groups:
        print_rows(groups)
    else:
        typer.echo("No dead letters.")


def print_letter(
    letter: StoredDeadLetter, headers: Sequence[tuple[str, bytes]], key: bytes | None, value: bytes
) -> None:
    """Prints a dead letter, its headers and its bytes.

    Bytes are shown as text if they are UTF-8, else in hexadecimal.
    """
    fields = {name: field for name, field in letter.document().items() if field not in {None, ""}}
    original_headers = {f"header {name}": format_bytes(header) for name, header in headers}
    rows = {**fields, "key": format_bytes(key or b""), **original_headers}
    print_table(["", ""], [[name, field] for name, field in rows.items()])
    typer.echo()
    typer.echo(format_value(value))
    if len(value) > MAX_SHOWN_BYTES:
        console().print(
            f"… {len(value) - MAX_SHOWN_BYTES} more bytes. Save all to a file: pinflow "
            f"dead-letters show {letter.name} --raw > FILE",
            markup=False,
        )


def format_value(value: bytes) -> str:
    """Formats the first bytes of a value, on several lines."""
    if not value:
        return "(no value)"
    part = value[:MAX_SHOWN_BYTES]
    try:
        value.decode()
    except UnicodeDecodeError:
        return "\n".join(
            part[start : start + HEX_LINE_BYTES].hex(" ", 2)
            for start in range(0, len(part), HEX_LINE_BYTES)
        )
    return "\n".join(printable(line) for line in part.decode(errors="ignore").split("\n"))


def format_bytes(value: bytes) -> str:
    """Formats bytes as text if they are UTF-8, else in hexadecimal."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def print_plan(
    counts: Mapping[str, int], letters: Sequence[StoredDeadLetter], *, is_done: bool
) -> None:
    """Prints the number of dead letters for each action. A plan also shows their errors."""
    if not letters:
        typer.echo("No dead letters to replay.")
        return
    if not is_done:
        print_histogram(build_histogram(letters))
        typer.echo()
    typer.echo("Result:" if is_done else "Plan:")
    for action, count in counts.items():
        typer.echo(f"  {count:>6}  {printable(action)}")


def _count_letters(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"
