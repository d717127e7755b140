"""Every import-linter contract of pyproject.toml is kept, and fails when an import breaks it."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploy.local.layout import CHECKOUT

CONFIGURATION = "pyproject.toml"
IMPORT_LINTER = tomllib.loads((CHECKOUT / CONFIGURATION).read_text(encoding="utf-8"))["tool"][
    "importlinter"
]
CONTRACTS: list[dict[str, Any]] = IMPORT_LINTER["contracts"]
SECONDS = 120


class Import(NamedTuple):
    importer: str
    imported: str


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that the contracts are about."""
    for package in IMPORT_LINTER["root_packages"]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=ignored)
    shutil.copy(CHECKOUT / CONFIGURATION, tmp_path)
    return tmp_path


def linted(tree: Path) -> "subprocess.CompletedProcess[str]":
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(command), "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "COLUMNS": "500", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def offences(contract: dict[str, Any], tree: Path) -> Iterator[Import]:
    """Yields one forbidden import for every module that the contract restricts."""
    match contract["type"]:
        case "independence":
            modules = list(resolved(contract["modules"], tree))
            yield from map(Import, modules, [*modules[1:], modules[0]])
        case "forbidden":
            forbidden = list(resolved(contract["forbidden_modules"], tree))
            yield from map(Import, resolved(contract["source_modules"], tree), cycle(forbidden))
        case "layers":
            for container in contract.get("containers", [""]):
                yield from upward(container, contract["layers"])
        case kind:
            pytest.fail(f"Teach this test how to break a contract of the type {kind}.")


def upward(container: str, layers: list[str]) -> Iterator[Import]:
    """Yields an import of the layer above for each module, and of its neighbour if it has one."""
    split = [
        [f"{container}.{name.strip()}".strip(".") for name in one.split("|")] for one in layers
    ]
    for above, layer in pairwise(split):
        yield from (Import(module, above[0]) for module in layer)
    for layer in split:
        yield from map(Import, layer, layer[1:])


def resolved(expressions: list[str], tree: Path) -> Iterator[str]:
    """Yields the modules that import-linter's expressions stand for; * is one part of a name."""
    for expression in expressions:
        if "*" not in expression:
            yield expression
            continue
        pattern = expression.replace(".", "/").replace("**", "**/*")
        found = {path.relative_to(tree).with_suffix("") for path in tree.glob(f"{pattern}.py")}
        found |= {path.parent.relative_to(tree) for path in tree.glob(f"{pattern}/__init__.py")}
        yield from sorted(".".join(path.parts) for path in found if path.name != "__init__")


def add(offence: Import, tree: Path) -> None:
    path = tree.joinpath(*offence.importer.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with file.open("a", encoding="utf-8") as module:
        module.write(f"\nimport {offence.imported}\n")


def test_the_tree_keeps_every_contract(tree: Path) -> None:
    done = linted(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["name"] for one in CONTRACTS if f"{one['name']} KEPT" not in done.stdout] == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_a_contract_fails_for_every_module_that_breaks_it(
    contract: dict[str, Any], tree: Path
) -> None:
    broken = list(offences(contract, tree))
    for offence in broken:
        add(offence, tree)
    done = linted(tree)
    assert (done.returncode, f"{contract['name']} BROKEN" in done.stdout) == (1, True), done.stdout
    _, _, report = done.stdout.rpartition(f"\n{contract['name']}\n")
    named = [
        f"{offence.importer} is not allowed to import {offence.imported}:" for offence in broken
    ]
    assert [text for text in named if text not in report] == []
