"""The simulator counts requests against Pinterest's rate limits."""

from collections.abc import Iterator

import pytest

from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes


@pytest.fixture
def token(simulator: Simulator) -> Iterator[str]:
    """Returns a token of a new user, whose limits nobody used."""
    account = simulator.create_account(boards=1)
    yield str(simulator.get_token(account["id"])["access_token"])
    simulator.change_settings(access="standard", buckets=True)


def test_the_writes_of_a_user_are_limited_and_reads_go_on(simulator: Simulator, token: str) -> None:
    answers = [
        simulator.call("POST", "/boards", token, json={"name": f"Board {number}"})
        for number in range(101)
    ]

    assert [answer.status_code for answer in answers] == [201] * 100 + [429]
    assert answers[0].headers["x-ratelimit-limit"] == "100"
    assert answers[0].headers["x-ratelimit-remaining"] == "99"
    refused = answers[-1]
    assert refused.json()["code"] == 8
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(refused.headers["x-ratelimit-reset"]) <= 60
    read = simulator.call("GET", "/boards", token)
    assert (read.status_code, read.headers["x-ratelimit-limit"]) == (200, "1000")
    other = simulator.get_token(simulator.create_account()["id"])["access_token"]
    assert simulator.call("POST", "/boards", other, json={"name": "A"}).status_code == 201


def test_a_trial_app_has_a_limit_for_a_day(simulator: Simulator, token: str) -> None:
    simulator.change_settings(access="trial")
    answer = simulator.call("POST", "/boards", token, json={"name": "A"})
    assert answer.headers["x-ratelimit-limit"] == "300"
    assert int(answer.headers["x-ratelimit-reset"]) > 86_000


def test_the_limits_can_be_off(simulator: Simulator, token: str) -> None:
    simulator.change_settings(buckets=False)
    answers = [simulator.call("GET", "/boards", token) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[0].headers
