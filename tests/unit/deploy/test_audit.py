"""`make audit` never reports a package as safe if no advisory service could look it up."""

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
ALL_SKIPPED: Report = {
    "dependencies": [
        {"name": "a", "skip_reason": "not found"},
        {"name": "b", "skip_reason": "not found"},
    ]
}
VULNERABILITY = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}
VULNERABLE: Report = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [VULNERABILITY]},
        {"name": "b", "version": "2", "vulns": []},
    ]
}
UNREACHABLE = AdvisoryReport((), frozenset(), frozenset(), "name or service not known")


def check(*answers: Report | AdvisoryReport) -> AuditResult:
    return check_advisories(
        answer if isinstance(answer, AdvisoryReport) else parse_report(answer) for answer in answers
    )


def test_one_advisory_service_that_answers_for_all_packages_is_enough() -> None:
    assert check(CLEAN, UNREACHABLE) is AuditResult.CLEAN


def test_a_package_is_checked_if_one_of_the_services_knows_it() -> None:
    assert check(SKIPPED, CLEAN) is AuditResult.CLEAN
    assert check(UNREACHABLE, CLEAN) is AuditResult.CLEAN


def test_a_package_that_no_service_knows_is_reported_as_not_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for answers in (
        (ALL_SKIPPED, UNREACHABLE),
        (SKIPPED, UNREACHABLE),
        (UNREACHABLE, UNREACHABLE),
        (UNREACHABLE, SKIPPED),
    ):
        assert check(*answers) is AuditResult.UNKNOWN
        printed = capsys.readouterr().out
        assert "NOT CHECKED" in printed
        assert "none for" not in printed


def test_a_lock_file_without_an_answer_is_not_covered_by_other_lock_files() -> None:
    assert (
        check_advisories([merge_reports([parse_report(CLEAN), UNREACHABLE]), UNREACHABLE])
        is AuditResult.UNKNOWN
    )


def test_a_known_vulnerability_is_named_with_the_version_that_fixes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(VULNERABLE) is AuditResult.FOUND
    assert "a 1: PYSEC-1, fixed in 2.1" in capsys.readouterr().out
    assert check(UNREACHABLE, VULNERABLE) is AuditResult.FOUND


def test_no_api_key_is_in_the_repository() -> None:
    assert find_leaked_keys(tracked_files()) == []
    assert audit.KEY.search(f"PINFLOW_API_KEY={new_api_key().plain}")


def test_every_lock_file_is_checked() -> None:
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
