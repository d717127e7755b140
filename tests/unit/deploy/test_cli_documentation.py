"""The documents name the commands and options that the command line has, and all of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from deploy.cli.main import app
from deploy.local.layout import CHECKOUT

ROOT: Any = get_command(app)
PAGES = sorted(
    path
    for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"))
    if path.name != "CHANGELOG.md" and "decisions" not in path.parts  # they tell of their time
)
GUIDE = (CHECKOUT / "docs/how-to/import-a-spreadsheet.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
CALL = re.compile(r"(?:^|[\s(/$])pinflow ([a-z][^|;&)#>]*)")
GUIDED = (
    "check",
    "import",
    "template",
    "imports list",
    "imports show",
    "imports results",
    "imports watch",
    "imports retry",
    "imports cancel",
    "imports undo",
    "pins list",
    "pins show",
    "schedules list",
    "schedules show",
    "schedules cancel",
)


def find_calls(text: str) -> Iterator[list[str]]:
    """Yields the words of each call of `pinflow` in a page's code."""
    blocks = FENCED.findall(text)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for code in [*commands, *INLINE.findall(FENCED.sub("", text))]:
        for call in CALL.findall(" ".join(code.split())):
            yield call.split()


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Returns the command that the words call, and its arguments."""
    command, rest = ROOT, list(words)
    while rest and rest[0].rstrip(",.") in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0).rstrip(",.")]
    return command, rest


def list_options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name[:2] == "--"} | {
        "--help"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_documented_command_and_option_exists(page: Path) -> None:
    missing = []
    for words in find_calls(page.read_text(encoding="utf-8")):
        command, arguments = find_command(words)
        options = {re.split("[=,.:]", word)[0] for word in arguments if word.startswith("--")}
        if not options <= list_options(command):
            missing.append(" ".join(words))
    assert missing == []


def test_the_guide_has_calls_to_compare() -> None:
    found = {" ".join(words[:2]) for words in find_calls(GUIDE)}
    assert {"import autumn.csv", "schedules list", "schedules cancel", "imports show"} <= found


@pytest.mark.parametrize("name", GUIDED)
def test_every_option_is_in_the_guide(name: str) -> None:
    command, rest = find_command(name.split())
    assert rest == []
    assert f"pinflow {name}" in GUIDE
    assert {option for option in list_options(command) - {"--help"} if option not in GUIDE} == set()


@pytest.mark.parametrize(
    "name", ["check", "import", "imports cancel", "imports undo", "schedules cancel"]
)
def test_the_guides_exit_codes_are_those_of_the_help(name: str) -> None:
    command, _ = find_command(name.split())
    codes = re.findall(r"^\s*(\d): ", command.help, re.MULTILINE)
    tables = GUIDE.split("| exit code | meaning |\n|---|---|\n")[1:]
    documented = [
        re.findall(r"^\| (\d) \|", table.split("\n\n")[0], re.MULTILINE) for table in tables
    ]
    assert codes in documented
