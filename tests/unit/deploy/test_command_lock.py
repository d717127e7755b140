"""Commands on one stack take turns, also while one of them deletes its directory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.command_lock import CommandLock
from deploy.local.layout import Layout
from deploy.local.stack import Stack
from tests.support.waiting import wait_until


class Commands:
    """Runs commands of one stack in threads. Each has a Stack, as a process would have."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.inside = 0
        self.reports: list[str] = []

    def stack(self) -> Stack:
        return Stack(self._layout, self.reports.append)

    def work(self, until: Callable[[], object] = lambda: True) -> None:
        """Stands for `up`: uses the stack's folders while it has the lock."""
        with CommandLock(self._layout, self.reports.append).hold():
            self.inside += 1
            assert self.inside == 1
            file = self._layout.log_file("up")
            file.write_text("started", encoding="utf-8")
            wait_until(until)
            assert file.read_text(encoding="utf-8") == "started"
            self.inside -= 1


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / ".pinflow")


def test_a_command_that_waits_says_so(layout: Layout) -> None:
    commands, released = Commands(layout), threading.Event()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(commands.work, released.is_set)
        wait_until(lambda: commands.inside)
        second = pool.submit(commands.stack().down)
        wait_until(lambda: commands.reports)
        assert not second.done()
        released.set()
        first.result()
        assert second.result() is False
    assert commands.reports == [
        "waiting for another make up, down, clean or demo in this directory"
    ]


def test_a_command_that_waited_for_a_clean_has_its_folders_and_the_lock(layout: Layout) -> None:
    commands = Commands(layout)
    with ThreadPoolExecutor(max_workers=12) as pool:
        works = [pool.submit(commands.work) for _ in range(60)]
        cleans = [pool.submit(commands.stack().clean) for _ in range(20)]
        works += [pool.submit(commands.work) for _ in range(60)]
        for work in works:
            work.result()
        for clean in cleans:
            clean.result()
    commands.stack().clean()
    assert not layout.directory.exists()


def test_a_directory_that_a_clean_deletes_during_its_creation_is_created_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.directory.mkdir()
    is_dir = Path.is_dir

    def deleted_first(path: Path) -> bool:
        """Deletes the directory where `Path.mkdir` asks whether it is what was in its way."""
        monkeypatch.setattr(Path, "is_dir", is_dir)
        layout.directory.rmdir()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", deleted_first)
    Commands(layout).work()
    assert layout.directory.is_dir()


def test_a_file_with_the_name_of_the_directory_is_an_error(layout: Layout) -> None:
    layout.directory.touch()
    with pytest.raises(FileExistsError):
        Commands(layout).work()


def test_a_clean_keeps_what_the_user_put_there(layout: Layout) -> None:
    Commands(layout).work()
    keys, other = layout.directory / "own" / "keys", layout.directory / "own" / "other"
    keys.parent.mkdir()
    for file in (keys, other, layout.app_secret_file, layout.token_keys_file):
        file.write_text("for tests only\n", encoding="utf-8")
    layout.settings_file.write_text(
        f"PINFLOW_PINTEREST_TOKEN_KEYS_FILE={keys}\nnot a setting\n", encoding="utf-8"
    )
    assert Commands(layout).stack().clean() == ["app-secret", "own/keys", "settings"]
    left = {path for path in layout.directory.rglob("*") if path.is_file()}
    assert left == {keys, layout.app_secret_file, layout.settings_file}


def test_a_clean_keeps_only_the_settings(layout: Layout) -> None:
    Commands(layout).work()
    layout.settings_file.write_text("PINFLOW_LOG_LEVEL=DEBUG\n", encoding="utf-8")
    (layout.directory / "postgres").symlink_to(layout.directory)
    Commands(layout).stack().clean()
    assert list(layout.directory.iterdir()) == [layout.settings_file]
