"""Restores an older Postgres while pins are delivered. The simulator's own log finds no doubles."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.support.connections import name_settings
from tests.support.deployment import is_ready
from tests.support.factories import submitted_row
from tests.support.processes import RunningProgram
from tests.support.restores_installation import Installation, installed, submit
from tests.support.simulator import Simulator
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DELIVERY_SECONDS = 150.0
"""Deadline of a delivery, also after a restore: lost answers are looked for after 13 s."""
LOST_ANSWERS = 0.15
"""The share of pins whose answer is cut after they are made."""
MISSING = ("", None)
QUICK = {
    "delivery_spacing_seconds": "0",
    "delivery_interval_seconds": "0.1",
    "delivery_daily_pins": "100000",
    "delivery_account_writes_per_minute": "10000",
    "delivery_account_reads_per_minute": "100000",
    "delivery_confirm_seconds": "2",
    "pinterest_timeout_seconds": "3",
}


@dataclass
class Drill:
    """A connected account, its pins on Pinterest, and the delivery process."""

    installation: Installation
    simulator: Simulator
    process: RunningProgram
    url: str
    client: httpx.Client
    account_id: str
    board_id: str

    def build_row(self, key: str) -> dict[str, Any]:
        return submitted_row(
            account_id=self.account_id,
            board_id=self.board_id,
            idempotency_key=key,
            title=f"Lamp {key}",
            image_url="https://images.example.com/lamp.jpg",
        )

    def import_rows(self, keys: Sequence[str]) -> None:
        submit(self.client, [self.build_row(key) for key in keys])

    def publish_directly(self, key: str) -> None:
        self.client.post("/v1/pins", json=self.build_row(key)).raise_for_status()
        wait_until(lambda: key in self.read_pins())

    def read_pins(self) -> dict[str, tuple[str, str | None]]:
        """Returns the state and the id at Pinterest of each pin, by its key."""
        query = (
            "select idempotency_key, state, pinterest_pin_id from publisher.pins "
            "where account_id = %s"
        )
        with psycopg.connect(self.installation.database_url) as connection:
            return {
                key: (state, pin)
                for key, state, pin in connection.execute(query, (self.account_id,))
            }

    def count_on_pinterest(self) -> Counter[str]:
        """Counts the pins that the simulator made, by the key in their title."""
        pins = self.simulator.control("GET", "pins", board_id=self.board_id)
        return Counter(pin["title"].removeprefix("Lamp ") for pin in pins)

    def wait_until_delivered(self, keys: Sequence[str]) -> None:
        """Waits until every pin of these keys is published with its id."""

        def is_delivered() -> bool:
            pins = self.read_pins()
            return all(pins.get(key, MISSING)[0] == "published" for key in keys)

        try:
            wait_until(is_delivered, seconds=DELIVERY_SECONDS)
        except AssertionError:
            pins = self.read_pins()
            rest = {key: pins.get(key) for key in keys if pins.get(key, MISSING)[0] != "published"}
            logs = f"{self.process.tail()}\n{self.installation.deployment.logs()}"
            raise AssertionError(f"not published: {rest}\n{logs}") from None

    def require_no_doubles(self, keys: Sequence[str]) -> None:
        made = self.count_on_pinterest()
        assert {key: count for key, count in made.items() if count != 1} == {}
        assert set(keys) <= set(made)

    def start(self) -> None:
        self.process.start()

    def wait_until_ready(self) -> None:
        self.process.wait_until(lambda: is_ready(self.url))


def name_keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def connect(client: httpx.Client, simulator: Simulator, user: str) -> str:
    """Connects an account as a user does in a browser. Returns its id."""
    started = client.get("/v1/pinterest/oauth/start")
    started.raise_for_status()
    target = httpx.URL(simulator.consent(started.json()["authorization_url"], user))
    finished = client.get(target.raw_path.decode())
    finished.raise_for_status()
    return str(finished.json()["account_id"])


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, simulator: Simulator
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("restores-delivery")
    variables = {**name_settings(simulator), **QUICK}
    with installed(directory, 1, **variables) as installation:
        yield installation


@pytest.fixture
def drill(installation: Installation, simulator: Simulator) -> Iterator[Drill]:
    workspace: NewWorkspace = new_workspace(installation.database_url)
    simulator.change_settings(buckets=False)
    simulator.control("POST", "faults", {"kind": "none"})
    user = simulator.create_account(boards=1)
    process = installation.deployment.programs["delivery"]
    if not process.is_alive:
        process.start()
    with installation.client(workspace) as client:
        account_id = connect(client, simulator, user["id"])
        drill = Drill(
            installation,
            simulator,
            process,
            installation.deployment.service_url("delivery"),
            client,
            account_id,
            user["boards"][0],
        )
        drill.wait_until_ready()
        yield drill


def test_invariant_12_pins_that_were_sent_after_the_backup_are_not_sent_again(
    drill: Drill, installation: Installation, simulator: Simulator
) -> None:
    before, after, killed = name_keys("before", 20), name_keys("after", 30), name_keys("killed", 60)
    drill.import_rows(before)
    drill.wait_until_delivered(before)
    copy = installation.back_up_postgres()
    simulator.set_faults("cut_after", LOST_ANSWERS, operation="pins/create")
    drill.import_rows(after)
    drill.publish_directly("direct")
    drill.wait_until_delivered([*after, "direct"])
    pinterest_pin_id = drill.read_pins()["direct"][1]
    drill.import_rows(killed)
    wait_until(lambda: len(drill.count_on_pinterest()) >= 51 + 20, seconds=DELIVERY_SECONDS)
    drill.process.kill()
    installation.stop_services()
    installation.restore_postgres(copy)
    installation.start_services()
    drill.wait_until_delivered([*before, *after, *killed])
    drill.require_no_doubles([*before, *after, *killed, "direct"])
    assert "direct" not in drill.read_pins()
    drill.publish_directly("direct")
    drill.wait_until_delivered(["direct"])
    assert drill.read_pins()["direct"] == ("published", pinterest_pin_id)
    drill.require_no_doubles(["direct"])


def test_invariant_12_a_failover_to_an_older_postgres_doubles_no_pin(
    drill: Drill, installation: Installation, simulator: Simulator
) -> None:
    before, after = name_keys("before", 20), name_keys("after", 60)
    drill.import_rows(before)
    drill.wait_until_delivered(before)
    simulator.set_faults("cut_after", LOST_ANSWERS, operation="pins/create")
    copy = installation.back_up_postgres()
    drill.import_rows(after)
    wait_until(lambda: len(drill.count_on_pinterest()) >= 20 + 20, seconds=DELIVERY_SECONDS)
    installation.restore_postgres(copy)
    drill.wait_until_delivered([*before, *after])
    drill.require_no_doubles([*before, *after])


def test_invariant_12_without_a_record_queued_pins_are_looked_for_before_they_are_sent(
    drill: Drill, installation: Installation
) -> None:
    keys = name_keys("lost", 20)
    drill.process.kill()
    drill.import_rows(keys)
    queued = ("queued", None)
    wait_until(lambda: list(drill.read_pins().values()).count(queued) == len(keys))
    copy = installation.back_up_postgres()
    drill.start()
    wait_until(lambda: len(drill.count_on_pinterest()) >= len(keys) // 2, seconds=DELIVERY_SECONDS)
    drill.process.kill()
    installation.stop_services()
    installation.restore_postgres(copy)
    installation.recreate_kafka()
    installation.accept_losses()
    installation.start_services()
    drill.wait_until_delivered(keys)
    drill.require_no_doubles(keys)
