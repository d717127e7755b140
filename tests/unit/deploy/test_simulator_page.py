"""The page about the simulator names every option, setting, fault and route that it has."""

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from deploy.local.layout import CHECKOUT
from deploy.simulator.app import create_app
from deploy.simulator.fault_kinds import FaultKind, InjectedFault
from deploy.simulator.options import Options, Settings
from deploy.simulator.store import SimulatorStore

PAGE = Path(CHECKOUT, "docs/reference/simulator.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
NAMES = set(re.findall(r"`([^`\n]+)`", FENCED.sub("", PAGE)))


@pytest.mark.parametrize(
    "names",
    [
        [kind.value for kind in FaultKind],
        [name for name in InjectedFault.model_fields if name != "kind"],
        [field.name for field in fields(Settings)],
    ],
    ids=["faults", "their fields", "settings"],
)
def test_the_page_has_every_name(names: Iterable[str]) -> None:
    assert [name for name in names if name not in NAMES] == []


def test_the_page_has_every_option_with_its_default() -> None:
    for field in fields(Options):
        option = f"--{field.name.replace('_', '-')}".removesuffix("s")
        assert option in PAGE
    for default in (Options.host, str(Options.port), Options.app_id, Options.app_secret):
        assert default in PAGE


def test_the_page_has_every_route() -> None:
    app = create_app(SimulatorStore(None), Options())
    paths = {getattr(route, "path", "") for route in app.routes} - {"/readyz", "/_uploads"}
    assert [path for path in sorted(paths) if path not in PAGE] == []
