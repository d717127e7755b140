"""Commands on one stack take turns, also while one of them deletes its directory."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.command_lock import CommandLock
from deploy.local.layout import CHECKOUT, Layout
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


def test_a_clean_keeps_symbolic_links_that_settings_name(layout: Layout, tmp_path: Path) -> None:
    Commands(layout).work()
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("first", "second"):
        (outside / name).write_text("for tests only\n", encoding="utf-8")
    (layout.directory / "link").symlink_to(outside / "first")
    (layout.directory / "folder").symlink_to(outside)
    (layout.directory / "other").symlink_to(outside)
    layout.settings_file.write_text(
        f"FIRST={layout.directory}/link\nSECOND={layout.directory}/folder/second\n",
        encoding="utf-8",
    )
    assert Commands(layout).stack().clean() == ["folder/second", "link", "settings"]
    left = {path.name for path in layout.directory.iterdir()}
    assert left == {"folder", "link", "settings"}
    assert {path.name for path in outside.iterdir()} == {"first", "second"}


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", " \t\r\n", ""])
@pytest.mark.parametrize("beginning", ["B=", "B = ", "B=/checkout/"])
def test_a_clean_without_an_environment_keeps_what_settings_name(
    tmp_path: Path, beginning: str, end: str
) -> None:
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    directory = tmp_path / ".pinflow"
    directory.mkdir()
    for name in ("app-secret", "one.pem", "two.pem", "two.pem.old"):
        (directory / name).touch()
    lines = f"A=.pinflow/one.pem{end or chr(10)}{beginning}.pinflow/two.pem{end}"
    (directory / "settings").write_bytes(lines.encode())
    # Without the variables of a make that runs the tests: they could name an environment
    subprocess.run(
        ("make", "-s", "-C", tmp_path, "clean"),
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
    )
    left = {path.name for path in directory.iterdir()}
    assert left == {"app-secret", "one.pem", "settings", "two.pem"}


def test_a_clean_keeps_only_the_settings(layout: Layout) -> None:
    Commands(layout).work()
    layout.settings_file.write_text("PINFLOW_LOG_LEVEL=DEBUG\n", encoding="utf-8")
    (layout.directory / "postgres").symlink_to(layout.directory)
    Commands(layout).stack().clean()
    assert list(layout.directory.iterdir()) == [layout.settings_file]
