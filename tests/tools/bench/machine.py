"""Describes what a report was measured on: machine, versions, settings and state of the code."""

import os
import platform
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg

from deploy.local.kafka import KafkaNode
from deploy.local.layout import CHECKOUT
from deploy.local.postgres import SETTINGS
from deploy.local.software import LOCK, find_caddy, find_java
from deploy.service_settings import find_settings
from deploy.services import SERVICES
from shared.contract.topics import TOPICS
from shared.runtime.settings import KafkaSettings
from tests.tools.bench.figures import Figures

PACKAGES = (
    "aiokafka",
    "cramjam",
    "fastapi",
    "faststream",
    "httptools",
    "httpx",
    "msgspec",
    "orjson",
    "psycopg",
    "pydantic",
    "pydantic-core",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
)


def describe_environment() -> Figures:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": {
            "commit": _run_git("rev-parse", "HEAD"),
            "changed_files": len(_run_git("status", "--porcelain").splitlines()),
        },
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _read_cpu_model(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "system": platform.platform(),
            "load_before": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "java": _read_java_version(),
            "kafka": _read_kafka_version(),
            "caddy": _run_command(find_caddy(), "version").split()[0],
            "packages": {name: version(name) for name in PACKAGES},
        },
    }


def read_server_settings(kafka: KafkaNode, database_url: str) -> Figures:
    """Reads the servers' settings that affect the figures, and Postgres's version."""
    with psycopg.connect(database_url) as connection:
        (postgres,) = connection.execute("show server_version").fetchone() or ("?",)
        query = (
            "select name, current_setting(name) from pg_settings where name = any(%s) order by 1"
        )
        settings: dict[str, str] = dict(
            connection.execute(
                query, [[*SETTINGS, "fsync", "synchronous_commit", "full_page_writes"]]
            ).fetchall()
        )
    return {
        "postgres_version": postgres,
        "postgres": settings,
        "kafka": {
            name: value
            for name, value in kafka.properties().items()
            if "listeners" not in name and name != "log.dirs"
        },
        "jvm": " ".join(kafka.jvm_options),
        "topics": {
            topic.name.value: topic.choose_partition_count(KafkaSettings().topic_partitions)
            for topic in TOPICS
        },
    }


def read_service_settings(variables: dict[str, str]) -> Figures:
    """Reads the services' numeric and boolean settings: defaults, overridden by `variables`."""
    return {
        name: {
            setting: variables.get(setting, field_info.default)
            for setting, field_info in find_settings(name).model_fields.items()
            if setting in variables or isinstance(field_info.default, int | float)
        }
        for name in SERVICES
    }


def _run_git(*arguments: str) -> str:
    return _run_command("git", "-C", str(CHECKOUT), *arguments)


def _run_command(*command: str) -> str:
    """Returns a command's output, or nothing if it can't run: a checkout may have no git."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False
        ).stdout.strip()
    except OSError:
        return ""


def _read_cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _read_java_version() -> str:
    return next(
        (
            line.partition("=")[2].strip()
            for line in _read_java_properties()
            if line.strip().startswith("java.runtime.version")
        ),
        "?",
    )


def _read_java_properties() -> list[str]:
    result = subprocess.run(
        [find_java(), "-XshowSettings:properties", "-version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stderr.splitlines()


def _read_kafka_version() -> str:
    locked = tomllib.loads(LOCK.read_text(encoding="utf-8"))["dependencies"]
    return next(
        (
            dependency["version"]
            for dependency in locked
            if dependency["artifactId"].startswith("kafka_")
        ),
        "?",
    )
