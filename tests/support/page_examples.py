"""Reads the examples of a documentation page, and compares their output with the page's.

A `sh` or `python` block runs as it is printed. The `text` block that follows it is its output, in
which `…` matches any text within a line, and a line `…` matches any number of lines.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from deploy.local.layout import CHECKOUT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUNNABLE_LANGUAGES = ("sh", "python")
END = "--- end of example ---"


class Example(NamedTuple):
    language: str
    code: str
    output: str | None
    """The expected output; None if the page shows none."""


def read_examples(page: str) -> list[Example]:
    """Reads the examples of a page. `page` is its path in the checkout."""
    blocks = [*FENCE.findall((CHECKOUT / page).read_text(encoding="utf-8")), ("", "")]
    return [
        Example(language, code, below[1] if below[0] == "text" else None)
        for (language, code), below in pairwise(blocks)
        if language in RUNNABLE_LANGUAGES
    ]


def build_script(examples: list[Example]) -> str:
    """Returns one shell script that runs all examples in order."""
    return "set -e\n" + "".join(f"{_command(example)}\necho '{END}'\n" for example in examples)


def _command(example: Example) -> str:
    if example.language == "sh":
        return example.code
    return f".venv/bin/python - <<'END_OF_PYTHON'\n{example.code}END_OF_PYTHON"


def find_mismatches(examples: list[Example], printed: str) -> list[str]:
    """Returns the differences between the page's outputs and the script's."""
    outputs = printed.split(f"{END}\n")[:-1]
    if len(outputs) != len(examples):
        return [f"{len(outputs)} of {len(examples)} examples ended"]
    return [
        f"{example.code}\nshould print:\n{example.output}\nbut printed:\n{output}"
        for example, output in zip(examples, outputs, strict=True)
        if example.output is not None and not matches(example.output, output)
    ]


def matches(expected: str, printed: str) -> bool:
    lines = [
        "(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", "[^\n]*") + "\n"
        for line in expected.splitlines()
    ]
    stripped = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch("".join(lines), stripped) is not None
