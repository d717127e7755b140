"""Errors in settings name the setting, and contain no secret."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from services.ingest.config import IngestSettings
from shared.runtime.settings import DatabaseSettings, ServiceSettings, find_unread_variables

SECRET = "hunter2"  # pragma: allowlist secret
QUOTED = "postgres://u:p%40ss%2Fword@db.example"  # pragma: allowlist secret


@pytest.mark.parametrize(
    "url",
    [
        f"postgres//u:{SECRET}@h/db",
        f"u:{SECRET}@h",
        f"mysql://u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@{SECRET}@h:5432/db",
        f"postgresql://u:{SECRET}/{SECRET}@h:5432/db",
        f"postgresql://u:{SECRET}%zz@h:5432/db",  # pragma: allowlist secret
        f"postgresql://u:{SECRET}@h:port/db",
        f"host=h password={SECRET}",
    ],
)
def test_an_ambiguous_database_url_is_refused_without_being_shown(
    url: str,
) -> None:
    with pytest.raises(ValidationError) as error:
        DatabaseSettings(database_url=SecretStr(url))
    assert "database_url" in str(error.value)
    assert SECRET not in str(error.value) + repr(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://pinflow@127.0.0.1:5432/pinflow",
        f"{QUOTED}/pinflow?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://u:p@[::1]:5432/pinflow",
        "postgresql:///pinflow?host=/run/postgresql",
        "postgresql://u:p!*-_.~?#[:@h/db",
        "postgresql://u:p@h",
    ],
)
def test_an_unambiguous_database_url_is_accepted(url: str) -> None:
    assert DatabaseSettings(database_url=SecretStr(url)).database_url.get_secret_value() == url


def test_an_error_in_one_setting_does_not_show_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PINFLOW_KAFKA_SASL_PASSWORD", SECRET)
    monkeypatch.setenv("PINFLOW_DATABASE_URL", f"postgresql://u:{SECRET}@h/db")
    for setting, value in (("acceptance_deadline_seconds", "1"), ("database_pool_size", "0")):
        with monkeypatch.context() as wrong:
            wrong.setenv(f"PINFLOW_{setting.upper()}", value)
            with pytest.raises(ValidationError, match=f"(?i){setting}") as error:
                IngestSettings()
        assert SECRET not in str(error.value)


@pytest.mark.parametrize("text", ["*", "gateway", "10.0.0.300", "127.0.0.1,nobody"])
def test_only_addresses_and_networks_are_trusted(text: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        ServiceSettings(trusted_proxies=text)


def test_several_proxies_or_none_may_be_trusted() -> None:
    for text in ("", "10.0.0.1", "10.0.0.0/8, 172.16.0.0/12,::1"):
        assert ServiceSettings(trusted_proxies=text).trusted_proxies == text


def test_variables_that_a_service_does_not_read_are_found_with_a_suggestion() -> None:
    names = ["PINFLOW_LOG_LEVEL", "PINFLOW_LOG_LEVL", "pinflow_port", "PINFLOW_HOME", "HOME"]
    assert find_unread_variables(ServiceSettings(), names) == {
        "PINFLOW_HOME": None,
        "PINFLOW_LOG_LEVL": "PINFLOW_LOG_LEVEL",
    }
