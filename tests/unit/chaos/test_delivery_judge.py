"""The judge of deliveries finds doubled, lost and twice adopted pins."""

from typing import Any

from tests.tools.chaos.deliveries.judge import Verdict, judge
from tests.tools.chaos.deliveries.plan import Group, PlannedPin

GROUP = Group("123", "Lamp", "https://shop.example/lamp")
OTHER = Group("123", "Shelf", "https://shop.example/shelf")


def plan(key: str, group: Group = GROUP) -> PlannedPin:
    return PlannedPin(0, key, group, {}, is_direct=False)


def made(pin_id: str, group: Group = GROUP) -> dict[str, Any]:
    return {"id": pin_id, **group._asdict()}


def stored(state: str, pin_id: str | None = None, code: str | None = None) -> dict[str, Any]:
    message = code and f"message of {code}"
    return {
        "state": state,
        "pinterest_pin_id": pin_id,
        "error_code": code,
        "error_message": message,
    }


def judge_one(log: list[dict[str, Any]], row: dict[str, Any] | None) -> Verdict:
    rows = {} if row is None else {(0, "a"): row}
    return judge([plan("a")], log, rows, {})


def test_a_published_pin_that_was_made_once_is_clean() -> None:
    verdict = judge_one([made("1")], stored("published", "1"))
    assert verdict.is_clean
    assert (verdict.made, verdict.published) == (1, 1)


def test_a_second_pin_of_the_same_content_is_doubled() -> None:
    assert judge_one([made("1"), made("2")], stored("published", "1")).doubled


def test_a_pin_that_was_made_for_a_failed_publication_is_doubled() -> None:
    assert judge_one([made("1")], stored("failed", code="validation_error")).doubled


def test_an_unconfirmed_pin_may_have_been_made_or_not() -> None:
    row = stored("failed", code="publish_unconfirmed")
    verdict = judge_one([made("1")], row)
    assert verdict.is_clean
    assert verdict.unconfirmed == ["a: message of publish_unconfirmed"]
    assert judge_one([], row).is_clean
    assert judge_one([made("1"), made("2")], row).doubled


def test_a_pin_that_is_not_stored_or_has_not_ended_is_lost() -> None:
    assert judge_one([], None).lost
    assert judge_one([], stored("queued")).lost


def test_a_published_pin_whose_id_pinterest_does_not_know_is_lost() -> None:
    assert judge_one([made("1")], stored("published", "2")).lost
    assert judge_one([made("1", OTHER)], stored("published", "1")).lost


def test_publications_with_equal_content_each_need_a_pin_of_their_own() -> None:
    planned = [plan("a"), plan("b")]
    rows = {(0, "a"): stored("published", "1"), (0, "b"): stored("published", "2")}
    assert judge(planned, [made("1"), made("2")], rows, {}).is_clean
    rows = {(0, "a"): stored("published", "1"), (0, "b"): stored("published", "1")}
    assert judge(planned, [made("1"), made("2")], rows, {}).adopted_twice


def test_a_pin_that_nobody_planned_is_found() -> None:
    log = [made("1"), made("9", OTHER)]
    assert judge_one(log, stored("published", "1")).doubled
