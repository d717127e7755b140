"""Checks what a stop of the local stack prints while it waits."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.local import supervision
from deploy.local.layout import Layout
from deploy.local.supervision import Supervisor

SLEEP = (sys.executable, "-c", "input()")


def test_a_stop_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "STOP_NOTICE_SECONDS", 0.05)
    reports: list[str] = []
    # Both wait for their standard input. `supervisor` ends after the first line about `kafka`
    with (
        subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as supervisor,
        subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as kafka,
    ):

        def report(text: str) -> None:
            reports.append(text)
            if text.startswith("waiting"):
                supervisor.communicate(b"\n")

        rpc = SimpleNamespace(
            getPID=lambda: supervisor.pid,
            shutdown=lambda: None,
            getAllProcessInfo=lambda: [
                {"name": "ingest", "pid": 0},
                {"name": "kafka", "pid": kafka.pid},
            ],
        )
        monkeypatch.setattr(Supervisor, "_rpc", rpc)
        Supervisor(Layout(tmp_path)).shut_down(report)
        kafka.communicate(b"\n")
    assert reports == ["stopping kafka", "waiting for kafka"]
