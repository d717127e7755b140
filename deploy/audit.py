"""python -m deploy.audit TOOLS: known vulnerabilities of what the lock files name, and secrets in
what git tracks.

TOOLS is the folder of pip-audit's and detect-secrets' commands. Exit code 0: nothing was found; 1:
something was; 2: no secret was found, and whether a dependency has a known vulnerability could not
be found out for all of them.
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
)
"""All of requirements.lock stands in requirements-dev.lock too."""
SERVICES = {
    "pypi": "PyPI (https://pypi.org/pypi/NAME/VERSION/json)",
    "osv": "OSV (https://api.osv.dev)",
}
HASHES = r"\.lock(\.toml)?$"
"""Files of checksums, which look as random as secrets do."""

KEY = re.compile(rf"{KEY_PREFIX}[\w-]{{43}}")


class AuditResult(IntEnum):
    CLEAN = 0
    FOUND = 1
    UNKNOWN = 2


class AdvisoryReport(NamedTuple):
    """What one service said of the dependencies."""

    vulnerable: tuple[str, ...]
    known: frozenset[str]
    unknown: frozenset[str]
    trouble: str | None = None
    """Why it said nothing at all."""


def main(tools: Path) -> AuditResult:
    secrets = [*find_leaked_keys(tracked_files()), *find_secrets(tools, tracked_files())]
    for one in secrets:
        print(f"  secret? {one}")
    print(f"secrets: {len(secrets) or 'none'} in {len(tracked_files())} files")
    verdict = check_advisories(
        merge_reports([fetch_report(tools, service, lock) for lock in LOCKS])
        for service in SERVICES
    )
    return AuditResult.FOUND if secrets else verdict


def check_advisories(answers: Iterable[AdvisoryReport]) -> AuditResult:
    """Asks one service after the other until every dependency is known; prints the result."""
    vulnerable: dict[str, None] = {}
    known: set[str] = set()
    unknown: set[str] = set()
    whole = False
    for service, answer in zip(SERVICES.values(), answers, strict=False):
        vulnerable |= dict.fromkeys(answer.vulnerable)
        known |= answer.known
        unknown = (unknown | answer.unknown) - known
        whole = answer.trouble is None
        if answer.trouble:
            print(f"  {service} could not be asked: {answer.trouble}")
        elif answer.unknown:
            print(
                f"  {service} answered, but does not know {len(answer.unknown)} of "
                f"{len(answer.known | answer.unknown)} packages"
            )
        if whole and not unknown:
            break
    for one in vulnerable:
        print(f"  vulnerable: {one}")
    if vulnerable:
        print(
            f"advisories: {len(vulnerable)} found. Raise the version in pyproject.toml, then: make "
            "lock"
        )
        return AuditResult.FOUND
    if unknown or not whole:
        whom = f"{len(unknown)} packages" if unknown else "all packages"
        print(
            f"advisories: NOT CHECKED for {whom}: neither service told. This says nothing about "
            "them; run it where one can be reached."
        )
        return AuditResult.UNKNOWN
    print(f"advisories: none for {len(known)} packages")
    return AuditResult.CLEAN


def merge_reports(answers: Sequence[AdvisoryReport]) -> AdvisoryReport:
    """Of several lock files, which may name the same packages."""
    known = frozenset[str]().union(*(one.known for one in answers))
    unknown = frozenset[str]().union(*(one.unknown for one in answers)) - known
    vulnerable = dict.fromkeys(fault for one in answers for fault in one.vulnerable)
    return AdvisoryReport(
        tuple(vulnerable),
        known,
        unknown,
        next((one.trouble for one in answers if one.trouble), None),
    )


def fetch_report(tools: Path, service: str, lock: str) -> AdvisoryReport:
    """pip-audit calls what it could not look up `skipped`, and all skipped a success: so its report
    is read, not its exit code.
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
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return AdvisoryReport((), frozenset(), frozenset(), lines[-1])


def parse_report(report: dict[str, Any]) -> AdvisoryReport:
    dependencies = report["dependencies"]
    vulnerable = tuple(
        f"{one['name']} {one['version']}: {fault['id']}, fixed in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for fault in one.get("vulns", ())
    )
    unknown = frozenset(one["name"] for one in dependencies if "skip_reason" in one)
    return AdvisoryReport(
        vulnerable, frozenset(one["name"] for one in dependencies) - unknown, unknown
    )


def find_secrets(tools: Path, files: Sequence[str]) -> list[str]:
    """By detect-secrets. A line that only looks like one says so: `pragma: allowlist secret`."""
    done = _run(
        [str(tools / "detect-secrets"), "scan", "--no-verify", "--exclude-files", HASHES, *files]
    )
    if done.returncode:
        raise SystemExit(f"detect-secrets failed:\n{done.stderr}")
    results = json.loads(done.stdout)["results"]
    return [
        f"{file}:{one['line_number']}: {one['type']}"
        for file, found in results.items()
        for one in found
    ]


def find_leaked_keys(files: Sequence[str]) -> list[str]:
    """Pinflow's own API keys, which no other scanner knows."""
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
