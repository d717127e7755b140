"""docs/reference/compatibility.md, made from the client, the OpenAPI document and the tests.

Run it with `python -m tests.contract.compatibility`.
"""

import ast
from collections.abc import Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from pinbridge_sdk import PinbridgeClient

from deploy.generate.files import ROOT
from deploy.generate.openapi import build_document
from services.status.unsupported import AREAS
from tests.support.sdk import Operation, operations_of

DOCUMENT = ROOT / "docs" / "reference" / "compatibility.md"
ACCEPTANCE = ROOT / "tests" / "acceptance"
REFUSALS = "test_sdk_unsupported.py::test_what_is_left_out_says_so_to_the_client"
"""Calls all that answers 501."""

INTRODUCTION = """\
# What PinBridge's client can do with Pinflow

Each public method of `pinbridge-sdk` {version}, alike in the synchronous client and the
asynchronous one. Made by `python -m tests.contract.compatibility` from the client itself, the
OpenAPI document and the tests in tests/acceptance that call it; a test compares. What answers 501
says in its message what to do instead.
"""

SDK = operations_of(PinbridgeClient)
SUPPORTED = {
    Operation.of(method, path)
    for path, operations in build_document()["paths"].items()
    for method in operations
}
LEFT_OUT = {Operation.of(*operation.split(" ")) for area in AREAS for operation in area.operations}


def text() -> str:
    shown = shown_by_method()
    parts = [INTRODUCTION.format(version=version("pinbridge-sdk"))]
    for resource, methods in groupby(SDK, key=lambda name: name.partition(".")[0]):
        lines = [_line(name, shown.get(name)) for name in methods]
        parts.append(
            "\n".join(
                [
                    f"## {resource}\n",
                    "| method | asks for | | shown by |",
                    "|---|---|---|---|",
                    *lines,
                ]
            )
            + "\n"
        )
    return "\n".join(parts)


def _line(name: str, test: str | None) -> str:
    operation = SDK[name]
    answer, shown_by = ("works", test) if operation in SUPPORTED else ("501", REFUSALS)
    return f"| `{name}` | `{operation.method} {operation.path}` | {answer} | {shown_by} |"


def shown_by_method() -> dict[str, str]:
    """Of the tests that call a method of the client and get an answer, the one that calls the
    fewest others: it is about this one.
    """
    methods_of = {
        f"{file.name}::{function.name}": set(_answered(function))
        for file in sorted(ACCEPTANCE.glob("test_sdk_*.py"))
        for function in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(function, ast.AsyncFunctionDef) and function.name.startswith("test_")
    }
    return {
        method: min(
            (test for test in methods_of if method in methods_of[test]),
            key=lambda test: len(methods_of[test]),
        )
        for method in set().union(*methods_of.values())
    }


def _answered(node: ast.AST) -> Iterator[str]:
    """resource.method of each call client.resource.method(…) that is not expected to raise."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.With(
                items=[ast.withitem(context_expr=ast.Call(func=ast.Attribute(attr="raises")))]
            ):
                continue
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=resource), attr=method)):
                yield f"{resource}.{method}"
        yield from _answered(child)


def named_tests(table: str) -> Iterator[tuple[Path, str]]:
    for line in table.splitlines():
        if "::" in line:
            file, _, name = line.rstrip(" |").rsplit("| ", 1)[1].partition("::")
            yield ACCEPTANCE / file, name


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
