"""`make up PINTEREST=…`: which choice counts, and the settings that it gives to the services."""

from pathlib import Path

import pytest

from deploy.local import pinterest
from deploy.local.layout import Layout, LocalError
from deploy.local.pinterest import (
    SECRETS,
    SPEED,
    PinterestChoice,
    build_settings,
    find_mode,
    leave_out_secrets,
    select_settings,
)
from deploy.local.settings_file import SettingsFile
from deploy.services import DELIVERY, SERVICES, WORKERS
from deploy.simulator.options import Options
from services.access.config import AccessSettings
from services.publisher.delivery.config import DeliverySettings

URL = "http://127.0.0.1:8090"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def choose(layout: Layout, requested: str | None) -> bool:
    """Starts a stack with this choice. Returns whether it has a simulator."""
    choice = PinterestChoice(layout, requested)
    choice.save()
    return choice.is_simulated


def test_the_choice_is_kept_for_the_next_start_until_another_is_made(layout: Layout) -> None:
    requests = (None, "simulated", None, "off", None)
    assert [choose(layout, requested) for requested in requests] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_an_unknown_choice_is_refused_with_the_way_to_an_app(layout: Layout) -> None:
    with pytest.raises(LocalError, match=r"Use off or simulated\. To use an app at Pinterest"):
        PinterestChoice(layout, "production")


@pytest.mark.parametrize(
    ("requested", "programs"), [("simulated", {}), ("off", {"simulator": "RUNNING"})]
)
def test_a_running_stack_refuses_another_choice(
    layout: Layout, requested: str, programs: dict[str, str]
) -> None:
    with pytest.raises(LocalError, match=f"make down, then make up PINTEREST={requested}"):
        PinterestChoice(layout, requested).require_running(programs)
    for same in (None, "simulated" if programs else "off"):
        PinterestChoice(layout, same).require_running(programs)


def test_the_simulators_app_and_keys_that_stay_connect_access_to_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = build_settings(layout, values={}, simulator_url=URL)
    assert build_settings(layout, values={}, simulator_url=URL) == settings
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    access = AccessSettings()
    assert (access.pinterest_mode, access.api_url) == ("simulated", f"{URL}/v5")
    assert access.token_keys == AccessSettings().token_keys != ()
    assert layout.token_keys_file.stat().st_mode & 0o077 == 0


def test_without_pinterest_there_are_no_settings_and_no_keys(layout: Layout) -> None:
    assert build_settings(layout, values={"PINFLOW_LOG_LEVEL": "DEBUG"}, simulator_url=None) == {}
    assert not layout.token_keys_file.exists()


def test_an_app_in_the_settings_file_gets_keys_unless_the_user_has_some(layout: Layout) -> None:
    app = {"pinflow_pinterest_mode": "production"}
    own = {**app, "PINFLOW_PINTEREST_TOKEN_KEYS": "a"}
    assert build_settings(layout, values=own, simulator_url=None) == {}
    assert not layout.token_keys_file.exists()
    assert build_settings(layout, values=app, simulator_url=None) == {
        "PINFLOW_PINTEREST_TOKEN_KEYS_FILE": str(layout.token_keys_file)
    }
    assert layout.token_keys_file.exists()


def test_delivery_gets_the_mode_the_simulator_and_its_speed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = build_settings(layout, values={}, simulator_url=URL)
    for name, value in select_settings(DELIVERY.name, settings).items():
        monkeypatch.setenv(name, value)
    delivery = DeliverySettings()
    assert (delivery.pinterest_mode, delivery.api_url) == ("simulated", f"{URL}/v5")
    assert delivery.delivery_spacing_seconds == 0
    program = pinterest.simulator_program(layout, 8090)
    limit = int(program.command[program.command.index("--writes-per-minute") + 1])
    assert limit == delivery.delivery_account_writes_per_minute > Options.writes_per_minute


def test_a_speed_that_the_user_has_chosen_stays(layout: Layout) -> None:
    own = {"pinflow_delivery_spacing_seconds": "30"}
    settings = build_settings(layout, values=own, simulator_url=URL)
    assert SPEED.keys() - settings.keys() == {"PINFLOW_DELIVERY_SPACING_SECONDS"}


@pytest.mark.parametrize("name", [*SERVICES, *WORKERS])
def test_only_access_gets_secrets_of_the_app(layout: Layout, name: str) -> None:
    values = {"PINFLOW_PINTEREST_MODE": "production", **dict.fromkeys(SECRETS, "secret")}
    simulated = build_settings(layout, values={}, simulator_url=URL)
    got = {**leave_out_secrets(name, values), **select_settings(name, simulated)}
    assert SECRETS & got.keys() == (SECRETS if name == "access" else set())
    assert "PINFLOW_PINTEREST_MODE" in got


def test_the_mode_is_that_of_the_simulator_or_of_the_settings_file() -> None:
    own = {"pinflow_pinterest_mode": "sandbox"}
    modes = [find_mode({}, None), find_mode(own, None), find_mode({}, URL)]
    assert modes == ["off", "sandbox", "simulated"]


def test_a_setting_that_the_simulator_replaces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_text("PINFLOW_PINTEREST_APP_ID=7\nPINFLOW_LOG_LEVEL=DEBUG\n", encoding="utf-8")
    file = SettingsFile(path)
    file.check({"access": file.values})
    with pytest.raises(LocalError) as refused:
        file.check({"access": file.values}, chosen=pinterest.CHOSEN, choice="PINTEREST=simulated")
    assert (
        "line 1: PINFLOW_PINTEREST_APP_ID: is chosen by make up PINTEREST=simulated. Remove the "
        "line, or use make up PINTEREST=off"
    ) in str(refused.value)
