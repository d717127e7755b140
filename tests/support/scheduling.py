"""Distributes test files to pytest-xdist's workers."""

from xdist.scheduler import LoadFileScheduling

GROUPS = {
    "tests/acceptance/test_command_line_connections.py": "connected",
    "tests/acceptance/test_sdk_connections.py": "connected",
    "tests/acceptance/test_tenancy.py": "connected",
    "tests/acceptance/test_webhooks.py": "connected",
    "tests/acceptance/hostile/": "hostile",
    "tests/acceptance/test_command_line": "acceptance",
    "tests/acceptance/test_dry_runs.py": "acceptance",
    "tests/acceptance/test_files_as_people_have_them.py": "acceptance",
    "tests/acceptance/test_gateway.py": "acceptance",
    "tests/acceptance/test_head.py": "acceptance",
    "tests/acceptance/test_imports.py": "acceptance",
    "tests/acceptance/test_poison.py": "acceptance",
    "tests/acceptance/test_sdk_": "acceptance",
    "tests/acceptance/test_steering.py": "acceptance",
    "tests/integration/access/tokens/": "tokens",
}
"""Groups of test files, by the beginning of their path: the first that fits. A worker runs a whole
group.

The files of a group share a deployment. On two workers they would start two: each takes 10 s of
CPU time.
"""


class FileGroupScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no type hints
    """Gives a worker whole test files, and all files of a group."""

    def _split_scope(self, nodeid: str) -> str:
        return find_scope(nodeid)


def find_scope(nodeid: str) -> str:
    """Returns the group of a test's file, or the file. One worker runs all tests of a scope."""
    file = nodeid.partition("::")[0]
    return next((group for start, group in GROUPS.items() if file.startswith(start)), file)
