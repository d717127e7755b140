"""Ingest knows which imports it may have sent recently."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ingest.admission import recent_imports
from services.ingest.admission.recent_imports import RecentImports
from services.ingest.ids import new_job_id


def test_only_an_import_that_was_sent_may_be_in_kafka() -> None:
    imports = RecentImports()
    sent, refused, other = (new_job_id(datetime.now(UTC) + timedelta(seconds=1)) for _ in range(3))
    imports.add(sent)
    imports.add(refused)
    imports.remove(refused)
    assert [imports.may_exist(job_id) for job_id in (sent, refused, other)] == [
        True,
        False,
        False,
    ]


def test_an_id_that_is_older_than_the_process_may_be_in_kafka() -> None:
    assert RecentImports().may_exist(new_job_id(datetime.now(UTC) - timedelta(seconds=5)))


def test_an_import_that_was_sent_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = RecentImports()
    first, second = (new_job_id(datetime.now(UTC) + timedelta(seconds=1)) for _ in range(2))
    imports.add(first)
    monkeypatch.setattr(recent_imports, "RETENTION_SECONDS", 0.0)
    imports.add(second)
    assert not imports.may_exist(first)
