"""Tests the rate limits of the simulator."""

from deploy.simulator.buckets import Buckets


def test_the_limit_of_a_user_is_used_up_and_returns_with_the_next_window() -> None:
    buckets = Buckets()
    quotas = [buckets.take("standard", "1", "org_write", now=1000.0) for _ in range(101)]

    assert [quota.is_exceeded for quota in quotas] == [False] * 100 + [True]
    assert quotas[0].headers == {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "99",
        "x-ratelimit-reset": "60",
    }
    assert (quotas[-1].remaining, quotas[-1].reset_seconds) == (0, 60)
    assert buckets.take("standard", "1", "org_write", now=1059.5).reset_seconds == 1
    assert not buckets.take("standard", "1", "org_write", now=1060.0).is_exceeded


def test_an_option_raises_the_limit_of_writes_and_no_other() -> None:
    buckets = Buckets(writes_per_minute=6000)
    assert buckets.take("standard", "1", "org_write", now=0).limit == 6000
    assert buckets.take("standard", "1", "org_read", now=0).limit == 1000
    assert buckets.take("trial", "1", "org_write", now=0).limit == 300


def test_users_and_categories_have_limits_of_their_own() -> None:
    buckets = Buckets()
    for _ in range(101):
        buckets.take("standard", "1", "org_write", now=0)

    assert buckets.take("standard", "2", "org_write", now=0).remaining == 99
    assert buckets.take("standard", "1", "org_read", now=0).remaining == 999


def test_the_users_of_a_trial_app_share_one_limit_for_a_day() -> None:
    buckets = Buckets()
    for user in range(300):
        buckets.take("trial", str(user), "org_write", now=0)

    quota = buckets.take("trial", "another", "org_write", now=3600)
    assert (quota.is_exceeded, quota.limit, quota.reset_seconds) == (True, 300, 23 * 3600)
