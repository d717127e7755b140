"""Test files that share a deployment run on one worker."""

import pytest

from deploy.local.layout import CHECKOUT
from tests.conftest import LONGEST_FIRST
from tests.support.scheduling import GROUPS, find_scope


@pytest.mark.parametrize("start", [*GROUPS, *LONGEST_FIRST])
def test_the_lists_of_files_name_existing_files(start: str) -> None:
    assert list(CHECKOUT.glob(f"{start}*"))


def test_a_worker_runs_all_files_of_a_group_and_other_files_alone() -> None:
    assert find_scope("tests/acceptance/test_sdk_pins.py::test_a[b::c]") == "acceptance"
    assert find_scope("tests/acceptance/hostile/test_requests.py::test_a") == "hostile"
    assert find_scope("tests/acceptance/test_sdk_connections.py::test_a") == "connected"
    alone = "tests/acceptance/test_local_stack.py"
    assert find_scope(f"{alone}::test_a[b]") == alone
