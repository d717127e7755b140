"""The container files agree with the table of services, and the names in them exist in the code.

The tests use no container engine, because images can't be pulled where they run.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from deploy.cli.main import app as cli
from deploy.local.kafka import KafkaCluster, NodePorts
from deploy.local.layout import CHECKOUT
from deploy.service_settings import find_settings
from deploy.services import (
    CHECKED_SERVICES,
    DEFAULT_SERVICE,
    DELIVERY,
    SERVICES,
    WORKERS,
    ServiceDescription,
)
from deploy.simulator.options import Options
from services.access.config import AccessSettings
from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from services.publisher.delivery.config import DeliverySettings
from services.status.config import StatusSettings

COMPOSE: dict[str, Any] = yaml.safe_load(
    (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
)
CONTAINERS: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
CADDYFILES = [
    (CHECKOUT / "deploy/gateway" / name).read_text(encoding="utf-8")
    for name in ("Caddyfile", "routes.caddyfile")
]
SETTINGS = {name: find_settings(name) for name in (*SERVICES, *WORKERS)}
SIMULATED_ENV = dict(
    line.split("=", 1)
    for line in (CHECKOUT / "deploy/docker/simulated.env").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
OURS = [name for name, service in CONTAINERS.items() if service["image"] == "pinflow"]


def read_variables(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in CONTAINERS[name].get("environment", {}).items()}


def resolve_variables(name: str, shell: Mapping[str, str]) -> dict[str, str]:
    """Returns a container's variables. As in compose, those without a value are the shell's."""
    variables = CONTAINERS[name].get("environment", {})
    return {
        key: shell[key] if value is None else interpolate(str(value), shell)
        for key, value in variables.items()
        if value is not None or key in shell
    }


def interpolate(value: str, shell: Mapping[str, str]) -> str:
    """Replaces ${NAME:-default} as compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda each: shell.get(each[1]) or each[2], value)


@pytest.mark.parametrize("name", OURS)
def test_a_command_exists(name: str) -> None:
    program, *arguments = CONTAINERS[name]["command"]
    if program == "python":
        assert arguments[0] == "-m"
        assert find_spec(f"{arguments[1]}.__main__")
        return
    command: Any = get_command(cli)
    for argument in arguments:
        command = command.commands[argument]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_services_variables_are_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {f"PINFLOW_{field.upper()}" for field in SETTINGS[name].model_fields}
    assert set(read_variables(name)) - {"PGPASSWORD", "TMPDIR"} <= fields
    for variable, value in resolve_variables(name, {}).items():
        monkeypatch.setenv(variable, value)
    SETTINGS[name]()


def test_access_gets_every_setting_of_the_app_at_pinterest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {each for each in read_variables("access") if each.startswith("PINFLOW_PINTEREST_")}
    assert settings == {
        f"PINFLOW_{field.upper()}"
        for field in AccessSettings.model_fields
        if field.startswith("pinterest_")
    }
    secret = tmp_path / "secret"
    secret.write_text("from a file\n", encoding="utf-8")
    shell = {
        **SIMULATED_ENV,
        "PINFLOW_PINTEREST_MODE": "production",
        "PINFLOW_PINTEREST_APP_SECRET_FILE": str(secret),
        "PINFLOW_PINTEREST_BOARDS_MINUTES": "720",
    }
    for variable, value in resolve_variables("access", shell).items():
        monkeypatch.setenv(variable, value)
    access = AccessSettings()
    assert (access.app_secret, access.pinterest_boards_minutes) == ("from a file", 720)


def test_delivery_gets_every_setting_of_its_own_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {
        each
        for each in read_variables(DELIVERY.name)
        if each.startswith(("PINFLOW_PINTEREST_", "PINFLOW_DELIVERY_", "PINFLOW_MEDIA_"))
    }
    assert settings == {
        f"PINFLOW_{field.upper()}"
        for field in DeliverySettings.model_fields
        if field.startswith(("pinterest_", "delivery_", "media_"))
    }
    shell = {**SIMULATED_ENV, "PINFLOW_DELIVERY_SPACING_SECONDS": "30"}
    for variable, value in resolve_variables(DELIVERY.name, shell).items():
        monkeypatch.setenv(variable, value)
    delivery = DeliverySettings()
    assert (delivery.delivery_spacing_seconds, delivery.api_url) == (
        30,
        f"http://simulator:{Options.port}/v5",
    )


def test_the_publisher_has_the_limits_of_delivery() -> None:
    publisher, delivery = read_variables("publisher"), read_variables(DELIVERY.name)
    limits = {f"PINFLOW_{field.upper()}" for field in DeliveryLimitSettings.model_fields}
    assert limits <= set(publisher) & set(delivery)
    assert publisher["PINFLOW_PINTEREST_MODE"] == delivery["PINFLOW_PINTEREST_MODE"]


@pytest.mark.parametrize("mode", ["off", "production"])
def test_pinflow_is_degraded_without_delivery_only_if_pinterest_is_on(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = {"PINFLOW_PINTEREST_MODE": mode}
    for variable, value in resolve_variables("status", shell).items():
        monkeypatch.setenv(variable, value)
    watched = {service.name: service for service in StatusSettings().watched_services}
    assert (DELIVERY.name in watched) == (mode != "off")
    if mode != "off":
        assert watched[DELIVERY.name].urls == "http://delivery:8000"
        assert not watched[DELIVERY.name].is_required


def test_the_file_of_the_simulator_connects_access_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in resolve_variables("access", SIMULATED_ENV).items():
        monkeypatch.setenv(variable, value)
    settings = AccessSettings()
    profiles = SIMULATED_ENV["COMPOSE_PROFILES"].split()
    assert profiles == CONTAINERS["simulator"]["profiles"]
    assert set(profiles) <= set(CONTAINERS[DELIVERY.name]["profiles"])
    assert set(SIMULATED_ENV) - {"COMPOSE_PROFILES"} <= set(read_variables("access"))
    assert settings.api_url == f"http://simulator:{Options.port}/v5"
    # The page where a user allows the access is opened by a browser outside of the containers
    assert CONTAINERS["simulator"]["ports"] == [f"127.0.0.1:{Options.port}:{Options.port}"]
    assert settings.consent_url == f"http://127.0.0.1:{Options.port}/oauth/"
    assert (settings.pinterest_app_id, settings.app_secret) == (Options.app_id, Options.app_secret)


def test_commands_reach_the_gateway_access_and_the_simulator() -> None:
    variables = read_variables("migrate")
    access = read_variables("access")
    assert variables["PINFLOW_BASE_URL"] == "http://gateway:8080"
    assert variables["PINFLOW_PINTEREST_SIMULATOR_URL"] == f"http://simulator:{Options.port}"
    for name in ("PINFLOW_ACCESS_URL", "PINFLOW_INTERNAL_TOKEN"):
        assert variables[name] == access[name]


@pytest.mark.parametrize("service", SERVICES.values(), ids=lambda service: service.name)
def test_a_service_runs_with_the_command_memory_and_role_of_the_table(
    service: ServiceDescription,
) -> None:
    container = CONTAINERS[service.name]
    assert container["command"] == ["python", "-m", f"services.{service.name}"]
    assert mebibytes(container["mem_limit"]) == service.memory_mib
    url = f"postgresql://{service.role}@postgres:5432/pinflow"
    assert read_variables(service.name)["PINFLOW_DATABASE_URL"] == url


def test_delivery_runs_with_the_command_memory_and_role_of_the_table() -> None:
    container = CONTAINERS[DELIVERY.name]
    assert container["command"] == ["python", "-m", DELIVERY.module]
    assert mebibytes(container["mem_limit"]) == DELIVERY.memory_mib
    publisher = read_variables(DELIVERY.service)
    for variable in ("PINFLOW_DATABASE_URL", "PGPASSWORD"):
        assert read_variables(DELIVERY.name)[variable] == publisher[variable]


def mebibytes(limit: str) -> int:
    return int(limit[:-1]) * {"m": 1, "g": 1024}[limit[-1]]


def test_there_is_a_container_for_each_service_and_no_other() -> None:
    running = {name for name in OURS if CONTAINERS[name]["command"][0] == "python"}
    optional = {*WORKERS, "simulator"}
    assert running == {*SERVICES, *optional}
    assert {name for name in CONTAINERS if "profiles" in CONTAINERS[name]} == optional


def test_a_service_logs_in_with_the_password_that_migrate_gives_its_role() -> None:
    variables = read_variables("migrate")
    passwords = {service.password_variable for service in SERVICES.values()}
    assert {name for name in variables if name.endswith("_PASSWORD")} == passwords
    for name, service in SERVICES.items():
        assert read_variables(name)["PGPASSWORD"] == variables[service.password_variable]


def test_every_variable_of_the_caddyfile_is_set_and_no_other() -> None:
    named = {name for text in CADDYFILES for name in re.findall(r"\{\$(\w+)\}", text)}
    assert named == set(read_variables("gateway"))


def test_the_gateway_and_the_status_service_have_the_services_addresses() -> None:
    gateway, status = read_variables("gateway"), read_variables(DEFAULT_SERVICE.name)
    for name, service in SERVICES.items():
        address = f"{name}:{read_variables(name)['PINFLOW_PORT']}"
        assert gateway[service.upstream_variable] == address
        assert status.get(service.url_variable) == (
            f"http://{address}" if name in CHECKED_SERVICES else None
        )
    port = read_variables(DELIVERY.name)["PINFLOW_PORT"]
    assert status[DELIVERY.url_variable] == f"http://{DELIVERY.name}:{port}"


def test_the_gateway_listens_at_the_address_that_clients_get() -> None:
    assert "PINFLOW_HOST=0.0.0.0" in DOCKERFILE
    published = CONTAINERS["gateway"]["ports"][0].split(":")[-1]
    assert read_variables("gateway")["PINFLOW_GATEWAY_PORT"] == published
    assert read_variables("ingest")["PINFLOW_BASE_URL"].endswith(f":{published}")


def test_services_start_after_their_dependencies_and_have_health_checks() -> None:
    # `topics` refuses an upgrade if old topics are not drained
    assert set(CONTAINERS["migrate"]["depends_on"]) == {"postgres", "topics"}
    assert set(CONTAINERS["topics"]["depends_on"]) == {"kafka"}
    for name in SETTINGS:
        assert CONTAINERS[name]["depends_on"] == {
            name: {"condition": "service_completed_successfully"} for name in ("migrate", "topics")
        }
        assert "/healthz" in CONTAINERS[name]["healthcheck"]["test"][-1]
    assert CONTAINERS["gateway"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in SERVICES
    }


def test_kafka_has_the_settings_of_the_local_stacks() -> None:
    local = broker_settings(brokers=1)
    compose = read_variables("kafka")
    same = set(local) & set(compose)
    assert {name: compose[name].lower() for name in same} == {
        name: local[name].lower() for name in same
    }
    assert {name for name in local if affects_durability(name)} <= set(compose)


def broker_settings(brokers: int) -> dict[str, str]:
    """Returns the settings that are the same on every node of every cluster of this size.

    Their names are the variables of the Kafka image.

    Settings that depend on a node or its ports are left out.
    """
    clusters = [
        KafkaCluster.from_ports(
            Path(f"/data-{first_port}"),
            [NodePorts(first_port + number, first_port + number + 10) for number in range(brokers)],
        )
        for first_port in (9000, 9500)
    ]
    first, *others = [node.properties() for cluster in clusters for node in cluster.nodes]
    names = [name for name in first if all(other[name] == first[name] for other in others)]
    return {f"KAFKA_{name.upper().replace('.', '_')}": first[name] for name in names}


def affects_durability(name: str) -> bool:
    return any(part in name for part in ("REPLICATION", "MIN_ISR", "MIN_INSYNC", "AUTO_CREATE"))


def test_copied_and_mounted_files_exist_and_are_not_ignored() -> None:
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = [path for line in sources for path in line.split()]
    paths += [
        volume.split(":")[0]
        for service in CONTAINERS.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []
    included = {
        line.removeprefix("!")
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {path for line in sources for path in line.split()}
    assert copied == included


def test_one_container_builds_the_image_and_the_others_use_it() -> None:
    assert [name for name in OURS if "build" in CONTAINERS[name]] == ["migrate"]
    assert all(CONTAINERS[name]["pull_policy"] == "never" for name in OURS if name != "migrate")


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_runs_as_an_unprivileged_user(name: str) -> None:
    service = CONTAINERS[name]
    user = str(service["user"]).partition(":")[0]
    assert user not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "gateway" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode", "devices", "userns_mode"} & set(service)
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))


@pytest.mark.parametrize("name", [*OURS, "gateway"])
def test_a_container_without_data_has_a_read_only_file_system(name: str) -> None:
    service = CONTAINERS[name]
    assert service["read_only"] is True
    assert {"/tmp"} <= set(service["tmpfs"])  # noqa: S108 - the container's
    writable = [volume for volume in service.get("volumes", ()) if not volume.endswith(":ro")]
    has_volume = name in {"simulator", DELIVERY.name}
    assert writable == ([f"{name}:/var/lib/pinflow"] if has_volume else [])


def test_only_gateway_and_simulator_are_reachable_and_only_from_this_machine() -> None:
    assert {
        name: service["ports"] for name, service in CONTAINERS.items() if "ports" in service
    } == {"gateway": ["127.0.0.1:8080:8080"], "simulator": ["127.0.0.1:8090:8090"]}


def test_the_simulator_can_write_its_data() -> None:
    (folder,) = re.findall(r"^RUN install -d -o 10001 -g 10001 (\S+)$", DOCKERFILE, re.MULTILINE)
    simulator = CONTAINERS["simulator"]
    assert simulator["volumes"] == [f"simulator:{folder}"]
    assert simulator["command"][-1].startswith(f"{folder}/")


def test_delivery_keeps_videos_on_disk_because_tmp_is_in_memory() -> None:
    (volume,) = CONTAINERS[DELIVERY.name]["volumes"]
    assert read_variables(DELIVERY.name)["TMPDIR"] == volume.split(":")[1]


def test_the_image_runs_as_an_unprivileged_user() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    (uid,) = re.findall(r"^RUN useradd .*--uid (\d+) ", DOCKERFILE, re.MULTILINE)
    assert user == f"{uid}:{uid}" == CONTAINERS["ingest"]["user"]
    assert "--require-hashes -r requirements.lock" in DOCKERFILE


@pytest.mark.processes
def test_the_package_that_the_image_installs_is_complete(tmp_path: Path) -> None:
    """Builds the package from the files that the Dockerfile copies and .dockerignore includes.

    The local stack is not among them, so no module of the package may import it.
    """
    source = tmp_path / "source"
    for path in ("shared", "services", "deploy"):
        shutil.copytree(
            CHECKOUT / path, source / path, ignore=shutil.ignore_patterns("__pycache__", "local")
        )
    for path in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / path, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    (wheel,) = tmp_path.glob("pinflow-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    for data in (
        "deploy/migrations/script.py.mako",
        "deploy/migrations/versions/0004_status.py",
    ):
        assert (unpacked / data).exists(), data
    code = (
        f"import deploy.cli.main, {', '.join(f'services.{name}.app' for name in SERVICES)}; "
        "print(deploy.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert str(unpacked) in result.stdout
