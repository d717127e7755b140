"""Plans the stack of a directory: its servers, programs, addresses and variables."""

from functools import cached_property

from deploy.local import gateway, pinterest
from deploy.local.kafka import KafkaCluster, select_ports
from deploy.local.layout import Layout
from deploy.local.postgres import Postgres
from deploy.local.programs import Program, service_program
from deploy.local.settings_file import SettingsFile, service_environment
from deploy.local.state import INTERNAL, OWNER, StackState
from deploy.services import CHECKED_SERVICES, DEFAULT_SERVICE, SERVICES, WORKERS
from shared.runtime.settings import KafkaSettings


class StackPlan:
    """Plans a stack as it would start now. Starts nothing. May raise LocalError.

    `brokers` is the requested number of brokers. None keeps the number that the existing data has.
    `choice` says whether the stack has a simulator of Pinterest.
    """

    def __init__(
        self, layout: Layout, brokers: int | None, choice: pinterest.PinterestChoice
    ) -> None:
        self._layout = layout
        self._brokers = brokers
        self.pinterest = choice

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.state.ports['gateway']}"

    @property
    def simulator_url(self) -> str | None:
        """The URL of the simulator of Pinterest. None without PINTEREST=simulated."""
        if not self.pinterest.is_simulated:
            return None
        return f"http://127.0.0.1:{self.state.ports[pinterest.SIMULATOR]}"

    @property
    def pinterest_mode(self) -> str:
        """PINFLOW_PINTEREST_MODE of the services, if they start now."""
        return pinterest.find_mode(self.settings_file.values, self.simulator_url)

    @property
    def workers(self) -> list[str]:
        """The names of the workers that a start of the stack runs."""
        return [] if self.pinterest_mode == pinterest.OFF else [*WORKERS]

    @cached_property
    def settings_file(self) -> SettingsFile:
        return SettingsFile(self._layout.settings_file)

    @cached_property
    def state(self) -> StackState:
        return StackState.load(self._layout.state_file, self._brokers)

    @property
    def installation(self) -> str:
        """The id that the services' answers carry.

        It contains the directory's hash, because a copied checkout has the same stored id.
        """
        return f"{self.stored_id}-{self._layout.digest}"

    @property
    def stored_id(self) -> str:
        """The random id of the stack and of its Kafka cluster. Empty until the first start."""
        file = self._layout.installation_file
        return file.read_text(encoding="utf-8").strip() if file.exists() else ""

    @property
    def kafka(self) -> KafkaCluster:
        return KafkaCluster.from_ports(
            self._layout.directory,
            select_ports(self.state.brokers, self.state.ports),
            cluster_id=self.stored_id or None,
        )

    @property
    def postgres(self) -> Postgres:
        return Postgres(
            self._layout.directory / "postgres",
            self.state.ports["postgres"],
            self.state.passwords[OWNER],
        )

    def gateway_program(self) -> Program:
        return gateway.gateway_program(
            self.state.ports["gateway"],
            self.state.ports,
            self._layout.directory / "gateway",
            self.settings_file.gateway_variables,
        )

    def service_programs(self) -> list[Program]:
        names = (*SERVICES, *self.workers)
        return [service_program(name, self.build_environment(name)) for name in names]

    def kafka_settings(self) -> KafkaSettings:
        """Returns the connection, and the settings of topics that the services have."""
        with service_environment(self.build_environment(DEFAULT_SERVICE.name)):
            return KafkaSettings()

    def addresses(self) -> dict[str, str]:
        """Returns the variables with the addresses of the gateway, Kafka and Postgres."""
        return {
            "PINFLOW_BASE_URL": self.base_url,
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "PINFLOW_DATABASE_URL": self.postgres.url,
        }

    def operator_variables(self) -> dict[str, str]:
        """Returns what commands need besides the address of the gateway."""
        simulator = (
            {} if self.simulator_url is None else {pinterest.SIMULATOR_URL: self.simulator_url}
        )
        return {
            "PINFLOW_ACCESS_URL": f"http://127.0.0.1:{self.state.ports['access']}",
            "PINFLOW_INTERNAL_TOKEN": self.state.passwords[INTERNAL],
            **simulator,
        }

    def build_environment(self, name: str) -> dict[str, str]:
        """Builds the variables of a service or worker."""
        local = {
            SERVICES[other].url_variable: f"http://127.0.0.1:{self.state.ports[other]}"
            for other in CHECKED_SERVICES
        }
        local |= {
            worker.url_variable: f"http://127.0.0.1:{self.state.ports[worker.name]}"
            for worker in WORKERS.values()
            if worker.name in self.state.ports
        }
        role = (SERVICES.get(name) or WORKERS[name]).role
        url = self.postgres.build_url(role, self.state.passwords[role])
        settings = {
            **self.addresses(),
            **local,
            "PINFLOW_DATABASE_URL": url,
            "PINFLOW_PORT": str(self.state.ports.get(name, 0)),
            "PINFLOW_INSTALLATION": self.installation,
            "PINFLOW_INTERNAL_TOKEN": self.state.passwords[INTERNAL],
        }
        values = self.settings_file.values
        chosen = pinterest.build_settings(
            self._layout, values=values, simulator_url=self.simulator_url
        )
        return {
            **pinterest.leave_out_secrets(name, values),
            **settings,
            **pinterest.select_settings(name, chosen),
        }
