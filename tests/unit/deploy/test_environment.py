"""The file `.pinflow/env`: written as a whole, readable by its owner only."""

import stat
from pathlib import Path

import pytest

from deploy.cli.environment import read_env, write_env


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "env"
    write_env(file, {"PINFLOW_API_KEY": "first"})
    with file.open(encoding="utf-8") as opened:
        write_env(file, {"PINFLOW_API_KEY": "second"})
        assert opened.read() == "PINFLOW_API_KEY=first\n"
    assert read_env(file) == {"PINFLOW_API_KEY": "second"}
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    write_env(file, {"PINFLOW_API_KEY": "first"})
    with pytest.raises(UnicodeEncodeError):
        write_env(file, {"PINFLOW_API_KEY": "\ud800"})
    assert read_env(file) == {"PINFLOW_API_KEY": "first"}
    assert list(tmp_path.iterdir()) == [file]
