"""The servers' software is fetched once, however many want it at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local import software
from tests.support.waiting import until

WANT_IT = 3


def test_of_several_that_want_kafka_at_the_same_time_one_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers in a fresh home would each write over the other's half-fetched jars."""
    fetching: list[Path] = []
    may_end = threading.Event()

    def fetch(folder: Path, _specification: Path) -> None:
        fetching.append(folder)
        folder.mkdir(parents=True)
        assert may_end.wait(30)

    monkeypatch.setattr(software, "SOFTWARE", tmp_path / "software")
    monkeypatch.setattr(software, "_fetch", fetch)
    monkeypatch.setattr(software, "_verify", lambda *_: None)
    with ThreadPoolExecutor(WANT_IT) as pool:
        wanted = [pool.submit(software.fetch_kafka) for _ in range(WANT_IT)]
        until(lambda: fetching)
        may_end.set()
        assert len({one.result(30) for one in wanted}) == 1
    assert len(fetching) == 1
