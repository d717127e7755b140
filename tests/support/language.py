"""Finds names and texts that break CONTRIBUTING.md's rules of language.

`python -m tests.support.language [PATH …]` prints the findings. tests/unit/test_language.py
requires that there are none.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from deploy.local.layout import CHECKOUT

PRODUCT = ("services", "shared", "deploy")
MAX_WIDTH = 100
FORBIDDEN_OPENINGS = frozenset(
    {
        "As",
        "At",
        "By",
        "From",
        "How",
        "In",
        "It",
        "Its",
        "Nor",
        "Of",
        "Or",
        "So",
        "That",
        "They",
        "Those",
        "To",
        "What",
        "Where",
        "Whether",
        "Which",
        "Who",
        "Whose",
        "Why",
    }
)
"""Words that no docstring begins with: they introduce a clause instead of an action or thing."""
FORBIDDEN_NAMES = frozenset(
    {
        "asked",
        "beyond",
        "busy",
        "doubt",
        "its",
        "judged",
        "machinery",
        "most",
        "one",
        "standing",
        "told",
        "trouble",
        "who",
    }
)
"""Pronouns, particles and private terms that must not name variables, functions or fields."""
FORBIDDEN_WORDS = re.compile(r"\b(?:courier|machinery|seldom)\b", re.IGNORECASE)
"""Private terms. The field's own are delivery worker, runtime and rate-limited."""
NOT_VERBS = frozenset(
    {
        "Always",
        "Columns",
        "Headers",
        "Is",
        "Ids",
        "Imports",
        "Keys",
        "Rows",
        "Seconds",
        "Settings",
        "This",
        "Topics",
        "Whereas",
    }
)
"""Capitalized words in -s that are not verbs in the third person."""
WITH_EXAMPLES = ("tests/support/language.py", "tests/unit/test_language.py")
"""Files that name what is forbidden."""
DATA_SUFFIXES = (".csv", ".json", ".lock", ".svg", ".html")


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def list_tracked_files(paths: Sequence[str] = ()) -> list[Path]:
    command = ["git", "ls-files", "-z", "--", *paths]
    listed = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True)
    return [CHECKOUT / name for name in listed.stdout.split("\0") if (CHECKOUT / name).is_file()]


def find_all(paths: Sequence[str] = ()) -> list[Finding]:
    """Returns every finding in the tracked files below the paths; all files without paths."""
    findings: list[Finding] = []
    for path in list_tracked_files(paths):
        name = path.relative_to(CHECKOUT).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix not in DATA_SUFFIXES:
            findings += find_wide_lines(name, text)
        if path.suffix == ".py" and name not in WITH_EXAMPLES:
            findings += find_in_python(name, text)
    return findings if paths else findings + find_doubled_classes()


def find_wide_lines(name: str, text: str) -> Iterator[Finding]:
    """Finds lines over 100 characters, except table rows and lines with a word of over 80."""
    for number, line in enumerate(text.splitlines(), start=1):
        is_table = name.endswith(".md") and line.startswith("|")
        longest_word = max(map(len, line.split()), default=0)
        if len(line) > MAX_WIDTH and not is_table and longest_word <= MAX_WIDTH - 20:
            yield Finding(name, number, "wide line", f"{len(line)} characters")


def find_in_python(name: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        if word := FORBIDDEN_WORDS.search(line):
            yield Finding(name, number, "private term", word[0])
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        yield from find_names(name, node)
    for number, docstring, needs_verb in iterate_docstrings(
        nodes, is_product=name.startswith(PRODUCT)
    ):
        yield from find_opening(name, number, docstring, needs_verb=needs_verb)


def find_names(path: str, node: ast.AST) -> Iterator[Finding]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            defined = name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            defined = name
        case _:
            return
    if defined.lstrip("_") in FORBIDDEN_NAMES:
        yield Finding(path, getattr(node, "lineno", 0), "name", defined)


def find_opening(path: str, line: int, docstring: str, *, needs_verb: bool) -> Iterator[Finding]:
    opening = docstring.split(maxsplit=1)[0].rstrip(",:;.") if docstring.strip() else ""
    if opening in FORBIDDEN_OPENINGS:
        yield Finding(path, line, "opening", docstring.splitlines()[0])
    elif needs_verb and not is_verb(opening):
        yield Finding(path, line, "no verb", docstring.splitlines()[0])


def is_verb(word: str) -> bool:
    """Guesses whether a word is a verb in the third person: in -s, and not in NOT_VERBS."""
    return word[:1].isupper() and word.endswith("s") and word not in NOT_VERBS


def iterate_docstrings(
    nodes: Iterable[ast.AST], *, is_product: bool
) -> Iterator[tuple[int, str, bool]]:
    """Yields each docstring's line, its text, and whether it must begin with a verb.

    It must in the product's functions. Exceptions: a property is described like a field, by a noun,
    and an endpoint or command in the imperative, because users read it.
    """
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                needs_verb = is_product and function and not is_described_for_users(node)
                yield getattr(node, "lineno", 1), text, needs_verb
        body: Iterable[ast.stmt] = getattr(node, "body", ())
        yield from iterate_attribute_docstrings(body if isinstance(body, list) else [])


def iterate_attribute_docstrings(body: Sequence[ast.stmt]) -> Iterator[tuple[int, str, bool]]:
    for before, statement in pairwise(body):
        match before, statement:
            case (
                ast.Assign() | ast.AnnAssign(),
                ast.Expr(value=ast.Constant(value=str(text)), lineno=line),
            ):
                yield line, text, False


def is_described_for_users(node: ast.AST) -> bool:
    decorators = [ast.unparse(decorator) for decorator in getattr(node, "decorator_list", ())]
    return any(
        re.search(r"property|\.(?:get|post|put|patch|delete|command|callback)\(", decorator)
        for decorator in decorators
    )


def find_doubled_classes() -> list[Finding]:
    """Finds class names that more than one module of the product defines."""
    definitions: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path in list_tracked_files(PRODUCT):
        if path.suffix == ".py":
            name = path.relative_to(CHECKOUT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    definitions[node.name].append((name, node.lineno))
    return [
        Finding(path, line, "doubled class", name)
        for name, lines in sorted(definitions.items())
        if len({path for path, _ in lines}) > 1
        for path, line in lines
    ]


if __name__ == "__main__":
    findings = find_all(sys.argv[1:])
    print(*findings, sep="\n")
    sys.exit(1 if findings else 0)
