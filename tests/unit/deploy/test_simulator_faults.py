"""Tests which requests meet the simulator's faults."""

import pytest
from pydantic import ValidationError

from deploy.simulator.errors import ErrorAnswer
from deploy.simulator.fault_kinds import CallFacts, FaultKind, InjectedFault
from deploy.simulator.faults import Cut, Faults, Injection

PIN = CallFacts("pins/create", "rosa", "org_write", "7", b'{"title": "Lamp"}')


def faults_with(*faults: dict[str, object], seed: int = 0) -> Faults:
    active = Faults(seed)
    for fault in faults:
        active.add(InjectedFault.model_validate(fault))
    return active


def draw(faults: Faults, count: int = 1, call: CallFacts = PIN) -> list[Injection]:
    return [faults.draw(call, now=0) for _ in range(count)]


def test_a_request_meets_nothing_without_faults() -> None:
    assert draw(Faults()) == [Injection()]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cut_before", Injection(before=Cut())),
        ("cut_after", Injection(after=Cut())),
        ("board_deleted", Injection(deletes_board=True)),
    ],
)
def test_a_fault_says_whether_the_request_is_done(kind: str, expected: Injection) -> None:
    assert draw(faults_with({"kind": kind})) == [expected]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("error_before", 500, 500),
        ("rate_limit", 429, 8),
        ("spam_block", 429, 9),
        ("fetch", 400, 1),
        ("image_small", 403, 233),
        ("image_broken", 403, 235),
        ("token", 401, 2),
        ("trial_app", 403, 29),
        ("board_refused", 403, 29),
    ],
)
def test_a_refusal_has_the_status_and_code_of_pinterest(kind: str, status: int, code: int) -> None:
    (injection,) = draw(faults_with({"kind": kind}))

    assert isinstance(injection.before, ErrorAnswer)
    assert (injection.before.status, injection.before.code) == (status, code)
    assert injection.after is None


def test_code_2787_comes_with_any_status_and_with_or_without_a_pin() -> None:
    drawn = draw(faults_with({"kind": "internal"}), 100)

    answers = {injection.before or injection.after for injection in drawn}
    assert all(isinstance(answer, ErrorAnswer) and answer.code == 2787 for answer in answers)
    assert {getattr(answer, "status", None) for answer in answers} == {400, 500}
    assert {bool(injection.after) for injection in drawn} == {True, False}


def test_a_share_is_met_and_the_same_seed_draws_the_same() -> None:
    first, second = (draw(faults_with({"kind": "cut_after", "share": 0.1}), 1000) for _ in "ab")

    assert first == second
    assert 60 < sum(injection.is_decided for injection in first) < 140
    assert first != draw(faults_with({"kind": "cut_after", "share": 0.1}, seed=1), 1000)


def test_a_fault_occurs_at_most_as_often_as_its_count() -> None:
    faults = faults_with({"kind": "cut_after", "count": 2})

    assert [injection.is_decided for injection in draw(faults, 4)] == [True, True, False, False]
    assert faults.describe() == {"active": [], "fired": {"cut_after": 2}}


def test_a_fault_concerns_only_its_operation_account_and_board() -> None:
    faults = faults_with(
        {"kind": "cut_after", "operation": "oauth/token"},
        {"kind": "error_after", "operation": "boards/*", "account_id": "rosa", "board_id": "7"},
    )

    assert draw(faults, call=CallFacts("oauth/token"))[0].after == Cut()
    assert draw(faults, call=CallFacts("boards/get", "rosa", board_id="7"))[0].is_decided
    assert not draw(faults, call=CallFacts("boards/get", "rosa", board_id="8"))[0].is_decided
    assert not draw(faults, call=CallFacts("boards/get", "tom", board_id="7"))[0].is_decided
    assert not draw(faults)[0].is_decided


def test_a_dead_token_leaves_the_token_endpoint_alone() -> None:
    faults = faults_with({"kind": "token"})

    assert draw(faults, call=CallFacts("boards/list", "rosa"))[0].is_decided
    assert not draw(faults, call=CallFacts("oauth/token", "rosa"))[0].is_decided


def test_a_rate_limit_lasts_for_the_account_and_category() -> None:
    faults = faults_with({"kind": "rate_limit", "count": 1, "seconds": 10})
    draw(faults)

    later = faults.draw(PIN, now=4).before
    assert isinstance(later, ErrorAnswer)
    assert later.reset_seconds == 6
    assert not faults.draw(PIN, now=10).is_decided
    assert not faults.draw(CallFacts("pins/list", "rosa", "org_read"), now=4).is_decided
    assert not faults.draw(CallFacts("pins/create", "tom", "org_write"), now=4).is_decided


def test_a_spam_block_lasts_for_all_writes_of_the_account() -> None:
    faults = faults_with({"kind": "spam_block", "count": 1, "seconds": 10})
    draw(faults)

    assert faults.draw(CallFacts("boards/create", "rosa", "org_write"), now=4).is_decided
    assert not faults.draw(CallFacts("boards/get", "rosa", "org_read"), now=4).is_decided


def test_an_image_that_could_not_be_fetched_is_fetched_the_next_time() -> None:
    faults = faults_with({"kind": "fetch"})
    other = CallFacts("pins/create", "rosa", "org_write", "7", b'{"title": "Vase"}')

    assert [injection.is_decided for injection in draw(faults, 3)] == [True, False, False]
    assert draw(faults, call=other)[0].is_decided


def test_delays_are_added_to_the_fault_that_decides() -> None:
    faults = faults_with(
        {"kind": "slow", "seconds": 2},
        {"kind": "slow", "seconds": 1, "account_id": "rosa"},
        {"kind": "cut_after"},
    )
    assert draw(faults) == [Injection(3, after=Cut())]


def test_the_same_kind_and_scope_replaces_a_fault_and_keeps_its_count() -> None:
    faults = faults_with({"kind": "cut_after"})
    draw(faults, 2)
    faults.add(InjectedFault(kind=FaultKind.CUT_AFTER, share=0))

    assert not draw(faults)[0].is_decided
    assert faults.describe() == {
        "active": [{"kind": "cut_after", "share": 0.0, "fired": 0}],
        "fired": {"cut_after": 2},
    }


def test_clearing_turns_everything_off_also_what_lasts() -> None:
    faults = faults_with({"kind": "spam_block"}, {"kind": "slow"})
    draw(faults)
    faults.clear()

    assert draw(faults) == [Injection()]
    assert faults.describe() == {"active": [], "fired": {"spam_block": 1, "slow": 1}}


def test_a_new_pin_is_late_in_lists_for_its_share() -> None:
    faults = faults_with({"kind": "late_list", "share": 0.5, "seconds": 10, "board_id": "7"})
    hidden = [faults.is_hidden(str(pin), "rosa", "7", age_seconds=9) for pin in range(200)]

    assert 70 < sum(hidden) < 130
    assert not any(faults.is_hidden(str(pin), "rosa", "7", 10) for pin in range(200))
    assert not any(faults.is_hidden(str(pin), "rosa", "8", 9) for pin in range(200))


def test_shuffled_lists_keep_their_order_and_have_pages_of_changing_size() -> None:
    faults = faults_with({"kind": "shuffled_list", "account_id": "rosa"})
    positions = [faults.position(str(pin)) for pin in range(50)]

    assert positions == [faults.position(str(pin)) for pin in range(50)]
    assert positions != sorted(positions)
    assert (faults.is_shuffled("rosa", "7"), faults.is_shuffled("tom", "7")) == (True, False)
    sizes = {faults.shrink_page(25, str(bookmark)) for bookmark in range(100)}
    assert min(sizes) >= 1
    assert max(sizes) <= 25
    assert len(sizes) > 5


def test_the_processing_of_media_takes_long_or_fails() -> None:
    faults = faults_with({"kind": "slow_media", "seconds": 90}, {"kind": "failed_media"})

    assert faults.draw_media("rosa") == (90, True)
    assert Faults().draw_media("rosa") == (0, False)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "unknown"},
        {"kind": "slow", "share": 1.5},
        {"kind": "slow", "count": 0},
        {"kind": "slow", "seconds": -1},
        {"kind": "slow", "seconds": float("nan")},
        {"kind": "slow", "color": "red"},
        {"kind": "late_list", "count": 3},
        {"kind": "slow_media", "operation": "pins/create"},
    ],
)
def test_a_fault_that_means_nothing_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InjectedFault.model_validate(fault)
