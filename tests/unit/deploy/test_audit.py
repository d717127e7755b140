"""`make audit` never calls what it could not look up fine."""

from typing import Any, TypeAlias

import pytest

from deploy import audit
from deploy.audit import (
    AdvisoryReport,
    AuditResult,
    check_advisories,
    find_leaked_keys,
    merge_reports,
    parse_report,
    tracked_files,
)
from shared.access.keys import new_api_key

Report: TypeAlias = dict[str, Any]

CLEAN: Report = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "vulns": []},
    ]
}
SKIPPED: Report = {
    "dependencies": [
        {"name": "a", "skip_reason": "not found"},
        {"name": "b", "version": "2", "vulns": []},
    ]
}
NOTHING: Report = {
    "dependencies": [
        {"name": "a", "skip_reason": "not found"},
        {"name": "b", "skip_reason": "not found"},
    ]
}
FAULT = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}
VULNERABLE: Report = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [FAULT]},
        {"name": "b", "version": "2", "vulns": []},
    ]
}
SILENT = AdvisoryReport((), frozenset(), frozenset(), "name or service not known")


def verdict(*answers: Report | AdvisoryReport) -> AuditResult:
    return check_advisories(
        answer if isinstance(answer, AdvisoryReport) else parse_report(answer) for answer in answers
    )


def test_a_service_that_knows_all_is_enough() -> None:
    assert verdict(CLEAN, SILENT) is AuditResult.CLEAN


def test_what_one_service_does_not_know_another_may() -> None:
    assert verdict(SKIPPED, CLEAN) is AuditResult.CLEAN
    assert verdict(SILENT, CLEAN) is AuditResult.CLEAN


def test_what_nobody_told_is_not_fine(capsys: pytest.CaptureFixture[str]) -> None:
    for answers in ((NOTHING, SILENT), (SKIPPED, SILENT), (SILENT, SILENT), (SILENT, SKIPPED)):
        assert verdict(*answers) is AuditResult.UNKNOWN
        said = capsys.readouterr().out
        assert "NOT CHECKED" in said
        assert "none for" not in said


def test_a_lock_file_that_could_not_be_looked_up_is_not_covered_by_the_others() -> None:
    assert (
        check_advisories([merge_reports([parse_report(CLEAN), SILENT]), SILENT])
        is AuditResult.UNKNOWN
    )


def test_a_known_vulnerability_is_named_with_what_mends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verdict(VULNERABLE) is AuditResult.FOUND
    assert "a 1: PYSEC-1, fixed in 2.1" in capsys.readouterr().out
    assert verdict(SILENT, VULNERABLE) is AuditResult.FOUND


def test_no_api_key_is_in_the_repository() -> None:
    assert find_leaked_keys(tracked_files()) == []
    assert audit.KEY.search(f"PINFLOW_API_KEY={new_api_key().plain}")


def test_every_lock_file_is_asked_about() -> None:
    locks = {
        name
        for name in tracked_files()
        if name.startswith("requirements") and name.endswith(".lock")
    }
    assert locks - set(audit.LOCKS) == {"requirements.lock"}
    names = [
        {line.split("==")[0] for line in _lines(lock) if "==" in line}
        for lock in ("requirements.lock", "requirements-dev.lock")
    ]
    assert names[0] <= names[1]


def _lines(lock: str) -> list[str]:
    return (audit.CHECKOUT / lock).read_text(encoding="utf-8").splitlines()
