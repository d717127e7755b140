"""`make demo`, `make up` and `make status`: output, and which processes run afterwards."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.local import commands


class Stack:
    """Stands in for the local stack. `interrupted` ends its start with Ctrl+C."""

    def __init__(self, *_: object) -> None:
        self.running = dict.fromkeys(self.running_before, "RUNNING")

    running_before: tuple[str, ...] = ()
    interrupted = False
    base_url = "http://127.0.0.1:1"
    simulator_url: str | None = None
    pinterest_mode = "off"
    prefers_simulator = False

    def prefer_simulator(self) -> None:
        Stack.prefers_simulator = True

    def states(self) -> dict[str, str]:
        return self.running

    def addresses(self) -> dict[str, str]:
        return {"ingest": "127.0.0.1:2"}

    def uptimes(self) -> dict[str, int]:
        return {"ingest": 3723}

    def readiness(self) -> dict[str, str]:
        return {"ingest": "not ready: kafka: no answer"}

    def up(self) -> bool:
        self.running |= {"kafka": "RUNNING"}
        if self.interrupted:
            raise KeyboardInterrupt
        return True

    def down(self) -> bool:
        self.running = {}
        return True


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PINFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "Stack", Stack)
    monkeypatch.setattr(commands, "run_demo", lambda *_, **__: 0)


def test_a_demo_that_is_interrupted_while_it_starts_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stack, "interrupted", True)
    result = CliRunner().invoke(commands.app, ["demo"])
    assert result.exit_code == 130
    assert "stopping" in result.output
    assert "Nothing is running." in result.output


@pytest.mark.parametrize(
    ("running", "options", "is_preferred"),
    [((), [], True), (("kafka",), [], False), ((), ["--pinterest", "off"], False)],
)
def test_a_demo_starts_the_simulator_unless_something_else_was_chosen(
    running: tuple[str, ...],
    options: list[str],
    is_preferred: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stack, "running_before", running)
    monkeypatch.setattr(Stack, "prefers_simulator", False)
    assert CliRunner().invoke(commands.app, ["demo", *options]).exit_code == 0
    assert Stack.prefers_simulator == is_preferred


def test_a_demo_that_would_publish_on_pinterest_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stack, "pinterest_mode", "production")
    result = CliRunner().invoke(commands.app, ["demo"])
    assert result.exit_code == 1
    assert "would publish 480 pins on Pinterest" in result.output
    assert "Nothing was started." in result.output


def test_processes_that_ran_before_the_demo_keep_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "running_before", ("kafka", "ingest"))
    result = CliRunner().invoke(commands.app, ["demo"])
    assert result.exit_code == 0
    assert "stopping" not in result.output


def test_an_interrupted_start_says_how_to_stop_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "interrupted", True)
    result = CliRunner().invoke(commands.app, ["up"])
    assert result.exit_code == 130
    assert "To stop the stack: make down." in result.output


def test_the_status_shows_the_address_and_the_readiness_of_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stack, "running_before", ("kafka", "ingest"))
    result = CliRunner().invoke(commands.app, ["status"])
    assert result.output.splitlines() == [
        "ingest       RUNNING    127.0.0.1:2      up 1:02:03   not ready: kafka: no answer",
        "kafka        RUNNING",
        "gateway: http://127.0.0.1:1",
    ]
