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

pytestmark = pytest.mark.processes

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
    """Copies everything that the contracts restrict."""
    for package in IMPORT_LINTER["root_packages"]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=ignored)
    shutil.copy(CHECKOUT / CONFIGURATION, tmp_path)
    return tmp_path


def run_linter(tree: Path) -> "subprocess.CompletedProcess[str]":
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


def list_offenses(contract: dict[str, Any], tree: Path) -> Iterator[Import]:
    """Yields one forbidden import for every module that the contract restricts."""
    match contract["type"]:
        case "independence":
            modules = list(resolve_modules(contract["modules"], tree))
            yield from map(Import, modules, [*modules[1:], modules[0]])
        case "forbidden":
            forbidden = list(resolve_modules(contract["forbidden_modules"], tree))
            yield from map(
                Import, resolve_modules(contract["source_modules"], tree), cycle(forbidden)
            )
        case "layers":
            for container in contract.get("containers", [""]):
                yield from list_upward_imports(container, contract["layers"])
        case kind:
            pytest.fail(f"Teach this test how to break a contract of the type {kind}.")


def list_upward_imports(container: str, layers: list[str]) -> Iterator[Import]:
    """Yields an import of the layer above for each module, and of its neighbor if it has one."""
    modules_by_layer = [
        [f"{container}.{name.strip()}".strip(".") for name in layer.split("|")] for layer in layers
    ]
    for above, modules in pairwise(modules_by_layer):
        yield from (Import(module, above[0]) for module in modules)
    for modules in modules_by_layer:
        yield from map(Import, modules, modules[1:])


def resolve_modules(expressions: list[str], tree: Path) -> Iterator[str]:
    """Yields the modules that match import-linter's expressions. * matches one part of a name."""
    for expression in expressions:
        if "*" not in expression:
            yield expression
            continue
        pattern = expression.replace(".", "/").replace("**", "**/*")
        found = {path.relative_to(tree).with_suffix("") for path in tree.glob(f"{pattern}.py")}
        found |= {path.parent.relative_to(tree) for path in tree.glob(f"{pattern}/__init__.py")}
        yield from sorted(".".join(path.parts) for path in found if path.name != "__init__")


def add_import(offense: Import, tree: Path) -> None:
    path = tree.joinpath(*offense.importer.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with file.open("a", encoding="utf-8") as module:
        module.write(f"\nimport {offense.imported}\n")


def test_the_tree_keeps_every_contract(tree: Path) -> None:
    done = run_linter(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [contract["name"] for contract in CONTRACTS]
    assert [name for name in names if f"{name} KEPT" not in done.stdout] == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_a_contract_fails_for_every_module_that_breaks_it(
    contract: dict[str, Any], tree: Path
) -> None:
    broken = list(list_offenses(contract, tree))
    for offense in broken:
        add_import(offense, tree)
    done = run_linter(tree)
    assert (done.returncode, f"{contract['name']} BROKEN" in done.stdout) == (1, True), done.stdout
    _, _, report = done.stdout.rpartition(f"\n{contract['name']}\n")
    named = [
        f"{offense.importer} is not allowed to import {offense.imported}:" for offense in broken
    ]
    assert [text for text in named if text not in report] == []
