"""`.pinflow/settings`: what it may contain, and how a mistake is refused before anything starts."""

import os
from itertools import permutations
from pathlib import Path

import pytest

from deploy.generate.settings import build_page
from deploy.local.layout import LocalError
from deploy.local.settings_file import FIXED, GATEWAY_SETTINGS, SettingsFile
from deploy.service_settings import find_settings
from deploy.services import SERVICES
from shared.contract.field_names import suggest_field
from shared.runtime.settings import name_variable

SECRET = "hunter2"  # pragma: allowlist secret


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings"


def check(path: Path, text: str) -> SettingsFile:
    path.write_text(text, encoding="utf-8")
    file = SettingsFile(path)
    file.check(dict.fromkeys(SERVICES, file.values))
    return file


def refuse(path: Path, text: str) -> str:
    with pytest.raises(LocalError) as refused:
        check(path, text)
    message = str(refused.value)
    assert message.startswith(f"{path} can't be used:\n  ")
    assert "docs/reference/settings.md" in message
    assert SECRET not in message
    return message


def test_without_a_file_there_are_no_settings(path: Path) -> None:
    file = SettingsFile(path)
    file.check({name: {} for name in SERVICES})
    assert file.values == {}


def test_comments_and_blank_lines_are_ignored_and_blanks_around_values_are_trimmed(
    path: Path,
) -> None:
    text = "\ufeff# PINFLOW_LOG_LEVEL=ERROR\n\n PINFLOW_LOG_LEVEL = DEBUG \r\nPGPASSWORD=a=b\n"
    assert check(path, text).values == {"PINFLOW_LOG_LEVEL": "DEBUG", "PGPASSWORD": "a=b"}


def test_the_gateway_gets_its_settings(path: Path) -> None:
    file = check(path, "PINFLOW_GATEWAY_READ_BODY=60s\nPINFLOW_BODY_SECONDS=50\n")
    assert file.gateway_variables == {"gateway_read_body": "60s"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("PINFLOW_LOG_LEVL=DEBUG", "PINFLOW_LOG_LEVL: is not a setting. Did you mean "),
        ("PINFLOW_LOGLEVEL=DEBUG", "Did you mean PINFLOW_LOG_LEVEL?"),
        ("PIFLOW_LOG_LEVEL=DEBUG", "Did you mean PINFLOW_LOG_LEVEL?"),
        ("LOG_LEVEL=DEBUG", "Did you mean PINFLOW_LOG_LEVEL?"),
        ("PINFLOW_IMPORT_BODY_LIMITS=1", "Did you mean PINFLOW_IMPORT_BODY_LIMIT?"),
        ("PINFLOW_GATEWAY_READBODY=1s", "Did you mean PINFLOW_GATEWAY_READ_BODY?"),
        ("PINFLOW_GATEWAY_WRITE=soon", "PINFLOW_GATEWAY_WRITE: must be a duration such as 30s"),
        ("PINFLOW_GATEWAY_WRITE=30", "must be a duration such as 30s"),
        ("PINFLOW_EVERYTHING=1", "PINFLOW_EVERYTHING: is not a setting of the services"),
        ("PINFLOW_PORT=9000", "PINFLOW_PORT: is chosen by make up. Remove the line"),
        ("PINFLOW_KAFKA_SECURITY_PROTOCOL=SSL", "is chosen by make up"),
        ("PINFLOW_LOG_LEVEL", "must have the form NAME=value"),
        ("PINFLOW_LOG_LEVEL: DEBUG", "must have the form NAME=value"),
        ("export PINFLOW_LOG_LEVEL=DEBUG", "must have the form NAME=value"),
        ('PINFLOW_LOG_LEVEL="DEBUG"', "must not contain a quotation mark"),
        ("PINFLOW_LOG_LEVEL=DEBUG # all of it", "a comment behind the value"),
        ("PINFLOW_LOG_LEVEL=LOUD", "PINFLOW_LOG_LEVEL: must be"),
        ("PINFLOW_DATABASE_POOL_SIZE=hunter2", "PINFLOW_DATABASE_POOL_SIZE: must be a whole"),
        ("pinflow_database_pool_size=0", "PINFLOW_DATABASE_POOL_SIZE: must be at least 1"),
    ],
)
def test_a_mistake_is_refused_with_its_line_and_what_to_write(
    path: Path, line: str, fault: str
) -> None:
    message = refuse(path, f"# my settings\n{line}\nPINFLOW_LOG_FORMAT=console\n")
    assert message.count("\n") == 2
    assert "line 2: " in message
    assert fault in message


def test_all_mistakes_are_reported_together_and_once(path: Path) -> None:
    message = refuse(path, "PINFLOW_LOG_LEVEL=1\nPINFLOW_LOG_LEVL=2\nPINFLOW_MAX_LIST=3\n")
    assert [line.split(":")[0] for line in message.splitlines()[1:-1]] == [
        "  line 2",
        "  line 3",
        "  line 1",
    ]


def test_a_name_that_is_set_twice_is_refused(path: Path) -> None:
    message = refuse(path, "PINFLOW_LOG_LEVEL=INFO\npinflow_log_level=DEBUG\n")
    assert "line 2: pinflow_log_level is set twice" in message


def test_a_fault_of_two_settings_together_is_refused(path: Path) -> None:
    assert "PINFLOW_IMPORT_BODIES_AT_ONCE" in refuse(path, "PINFLOW_IMPORT_BODIES_AT_ONCE=1024\n")


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    path.write_bytes(b"PINFLOW_ENVIRONMENT=\xff\n")
    with pytest.raises(LocalError, match="Save it as a text file in UTF-8"):
        SettingsFile(path)


def test_the_check_leaves_the_environment_unchanged(path: Path) -> None:
    before = dict(os.environ)
    check(path, "PINFLOW_LOG_LEVEL=DEBUG\n")
    assert dict(os.environ) == before


def test_no_setting_is_taken_for_a_slip_of_another() -> None:
    services = {
        name_variable(field) for name in SERVICES for field in find_settings(name).model_fields
    }
    names = services | GATEWAY_SETTINGS | FIXED
    assert {(a, b) for a, b in permutations(names, 2) if suggest_field(a, {b})} == set()
    assert [name for name in GATEWAY_SETTINGS if f"`{name}`" not in build_page()] == []
