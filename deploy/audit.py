"""Looks for known vulnerabilities and committed secrets: python -m deploy.audit TOOLS.

It checks the packages of the lock files, and the files that git tracks. TOOLS is the folder with
the commands of pip-audit and detect-secrets. Exit codes: 0: nothing was found. 1: something was
found. 2: no secret was found, but some packages could not be checked.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from shared.access.keys import KEY_PREFIX

CHECKOUT = Path(__file__).parents[1]
LOCKS = (
    "requirements-dev.lock",
    "requirements-uv.lock",
    "requirements-audit.lock",
    "requirements-peers.lock",
    "requirements-clients.lock",
)
"""All lock files except requirements.lock: requirements-dev.lock contains its packages too."""
SERVICES = {
    "pypi": "PyPI (https://pypi.org/pypi/NAME/VERSION/json)",
    "osv": "OSV (https://api.osv.dev)",
}
HASHES = r"\.lock(\.toml)?$"
"""Files of checksums, which look as random as secrets."""

KEY = re.compile(rf"{KEY_PREFIX}[\w-]{{43}}")


class AuditResult(IntEnum):
    """The exit codes."""

    CLEAN = 0
    FOUND = 1
    UNKNOWN = 2


class AdvisoryReport(NamedTuple):
    """The answer of one advisory service."""

    vulnerable: tuple[str, ...]
    known: frozenset[str]
    unknown: frozenset[str]
    problem: str | None = None
    """The reason if the service did not answer."""


def main(tools: Path) -> AuditResult:
    secrets = [*find_leaked_keys(tracked_files()), *find_secrets(tools, tracked_files())]
    for secret in secrets:
        print(f"  secret? {secret}")
    print(f"secrets: {len(secrets) or 'none'} in {len(tracked_files())} files")
    result = check_advisories(
        merge_reports([fetch_report(tools, service, lock) for lock in LOCKS])
        for service in SERVICES
    )
    return AuditResult.FOUND if secrets else result


def check_advisories(reports: Iterable[AdvisoryReport]) -> AuditResult:
    """Queries one service after the other until every package is known; prints the result."""
    vulnerable: dict[str, None] = {}
    known: set[str] = set()
    unknown: set[str] = set()
    is_complete = False
    for service, report in zip(SERVICES.values(), reports, strict=False):
        vulnerable |= dict.fromkeys(report.vulnerable)
        known |= report.known
        unknown = (unknown | report.unknown) - known
        is_complete = report.problem is None
        if report.problem:
            print(f"  {service} could not be queried: {report.problem}")
        elif report.unknown:
            print(
                f"  {service} answered, but does not know {len(report.unknown)} of "
                f"{len(report.known | report.unknown)} packages"
            )
        if is_complete and not unknown:
            break
    for advisory in vulnerable:
        print(f"  vulnerable: {advisory}")
    if vulnerable:
        print(
            f"advisories: {len(vulnerable)} found. Raise the versions in pyproject.toml, then run: "
            "make lock"
        )
        return AuditResult.FOUND
    if unknown or not is_complete:
        unchecked = f"{len(unknown)} packages" if unknown else "all packages"
        print(
            f"advisories: NOT CHECKED for {unchecked}. No advisory service gave an answer about "
            "them: they may be vulnerable. Run make audit again where PyPI or OSV answers."
        )
        return AuditResult.UNKNOWN
    print(f"advisories: none for {len(known)} packages")
    return AuditResult.CLEAN


def merge_reports(reports: Sequence[AdvisoryReport]) -> AdvisoryReport:
    """Merges the reports on several lock files, which may name the same packages."""
    known = frozenset[str]().union(*(report.known for report in reports))
    unknown = frozenset[str]().union(*(report.unknown for report in reports)) - known
    vulnerable = dict.fromkeys(advisory for report in reports for advisory in report.vulnerable)
    return AdvisoryReport(
        tuple(vulnerable),
        known,
        unknown,
        next((report.problem for report in reports if report.problem), None),
    )


def fetch_report(tools: Path, service: str, lock: str) -> AdvisoryReport:
    """Runs pip-audit on a lock file and parses its report.

    The exit code is ignored: pip-audit reports packages that it could not look up as `skipped`, and
    ends with 0 even if all packages were skipped.
    """
    options = [
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
        f"--vulnerability-service={service}",
    ]
    done = _run([str(tools / "pip-audit"), *options, "-r", lock])
    try:
        return parse_report(json.loads(done.stdout))
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["pip-audit printed nothing"]
        return AdvisoryReport((), frozenset(), frozenset(), lines[-1])


def parse_report(report: dict[str, Any]) -> AdvisoryReport:
    packages = report["dependencies"]
    vulnerable = tuple(
        f"{package['name']} {package['version']}: {advisory['id']}, fixed in "
        f"{', '.join(advisory['fix_versions']) or 'no version yet'}"
        for package in packages
        for advisory in package.get("vulns", ())
    )
    names = frozenset(package["name"] for package in packages)
    unknown = frozenset(package["name"] for package in packages if "skip_reason" in package)
    return AdvisoryReport(vulnerable, names - unknown, unknown)


def find_secrets(tools: Path, files: Sequence[str]) -> list[str]:
    """Runs detect-secrets. It ignores lines with the comment `pragma: allowlist secret`."""
    done = _run(
        [str(tools / "detect-secrets"), "scan", "--no-verify", "--exclude-files", HASHES, *files]
    )
    if done.returncode:
        raise SystemExit(f"detect-secrets failed:\n{done.stderr}")
    results = json.loads(done.stdout)["results"]
    return [
        f"{file}:{secret['line_number']}: {secret['type']}"
        for file, secrets in results.items()
        for secret in secrets
    ]


def find_leaked_keys(files: Sequence[str]) -> list[str]:
    """Finds Pinflow's own API keys, which detect-secrets does not recognize."""
    texts = {
        file: (CHECKOUT / file).read_text(encoding="utf-8", errors="replace") for file in files
    }
    return [
        f"{file}:{number}: Pinflow API key"
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if KEY.search(line)
    ]


def tracked_files() -> list[str]:
    return [name for name in _run(["git", "ls-files", "-z"]).stdout.split("\0") if name]


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    # A fixed list, no shell
    return subprocess.run(  # noqa: S603
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
