"""The servers' software is fetched once, even if several processes need it at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local import software
from tests.support.waiting import wait_until

WORKERS = 3


def test_several_workers_that_need_kafka_at_the_same_time_fetch_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two workers would overwrite each other's incomplete jars."""
    fetching: list[Path] = []
    may_end = threading.Event()

    def fetch(folder: Path, _specification: Path) -> None:
        fetching.append(folder)
        folder.mkdir(parents=True)
        assert may_end.wait(30)

    monkeypatch.setattr(software, "SOFTWARE", tmp_path / "software")
    monkeypatch.setattr(software, "_fetch", fetch)
    monkeypatch.setattr(software, "_verify", lambda *_: None)
    with ThreadPoolExecutor(WORKERS) as pool:
        results = [pool.submit(software.fetch_kafka) for _ in range(WORKERS)]
        wait_until(lambda: fetching)
        may_end.set()
        assert len({result.result(30) for result in results}) == 1
    assert len(fetching) == 1
