"""Pins whose answer was lost are looked for on the simulator of Pinterest."""

import asyncio
from uuid import UUID

import pytest

from services.publisher.delivery.attempts.settlements import publish_pin
from services.publisher.delivery.confirming.confirmer import AdoptedElsewhere
from services.publisher.delivery.confirming.repository import ConfirmingRepository
from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt, Postponed
from services.publisher.model import PinState
from shared.contract.errors import Unavailable
from shared.pinterest.client import PAGE_SIZE
from shared.pinterest.model import Category
from shared.postgres.database import driver_connection
from tests.integration.publisher.delivery.deliveries import MODE, Deliveries

FOUND, ABSENT, UNCONFIRMED = (
    AttemptOutcome.FOUND,
    AttemptOutcome.ABSENT,
    AttemptOutcome.UNCONFIRMED,
)


async def require_found(deliveries: Deliveries, attempt: DeliveryAttempt, made_id: str) -> None:
    pin = await deliveries.read_pin(attempt.pin_id)
    assert (pin["state"], pin["pinterest_pin_id"]) == (PinState.PUBLISHED, made_id)
    ((kind, event),) = await deliveries.read_events(attempt.pin_id)
    assert (kind, event["pinterest_pin_id"]) == ("published", made_id)
    assert deliveries.log.settled == [(attempt.attempt_id, FOUND, made_id)]


async def require_unconfirmed(deliveries: Deliveries, attempt: DeliveryAttempt) -> str:
    """Returns the pin's error message."""
    pin = await deliveries.read_pin(attempt.pin_id)
    assert (pin["state"], pin["error_code"]) == (PinState.FAILED, "publish_unconfirmed")
    ((kind, event),) = await deliveries.read_events(attempt.pin_id)
    assert (kind, event["error_code"]) == ("failed", "publish_unconfirmed")
    assert deliveries.log.settled == [(attempt.attempt_id, UNCONFIRMED, None)]
    return str(pin["error_message"])


@pytest.mark.parametrize("fault", ["cut_after", "error_after"])
async def test_a_pin_whose_answer_was_lost_is_found(deliveries: Deliveries, fault: str) -> None:
    attempt = await deliveries.lose(fault)
    assert await deliveries.look()
    (made,) = deliveries.made()
    await require_found(deliveries, attempt, made["id"])
    assert not await deliveries.look()


async def test_no_look_begins_before_the_deadline(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose()
    await deliveries.execute(
        "update publisher.delivery_attempts set deadline_at = now() + interval '1 minute' "
        "where attempt_id = %s",
        (attempt.attempt_id,),
    )
    assert not await deliveries.look()


@pytest.mark.parametrize("fault", ["cut_before", "error_before"])
async def test_a_pin_that_two_looks_do_not_find_is_queued_again(
    deliveries: Deliveries, fault: str
) -> None:
    attempt = await deliveries.lose(fault)
    assert await deliveries.look()
    assert (await deliveries.read_pin(attempt.pin_id))["state"] == PinState.CONFIRMING
    assert not await deliveries.look(), "the second look waits"
    await deliveries.pass_time()
    assert await deliveries.look()
    assert (await deliveries.read_pin(attempt.pin_id))["state"] == PinState.QUEUED
    assert await deliveries.read_events(attempt.pin_id) == []
    assert deliveries.log.settled == [(attempt.attempt_id, ABSENT, None)]
    (stored,) = await deliveries.read_attempts(attempt.pin_id)
    assert (stored["outcome"], stored["looks"]) == (ABSENT, 1)


async def test_a_pin_that_is_listed_late_is_found_by_the_second_look(
    deliveries: Deliveries,
) -> None:
    deliveries.simulator.set_faults("late_list", seconds=3600, board_id=deliveries.board_id)
    attempt = await deliveries.lose()
    assert await deliveries.look()
    deliveries.simulator.control("POST", "faults", {"kind": "none"})
    await deliveries.pass_time()
    assert await deliveries.look()
    await require_found(deliveries, attempt, deliveries.made()[0]["id"])


async def test_a_pin_is_found_on_shuffled_pages(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose()
    for number in range(260):
        deliveries.make_by_hand(title=f"Vase {number}", description=None, link=None)
    deliveries.simulator.set_faults("shuffled_list", board_id=deliveries.board_id)
    assert await deliveries.look(max_pages=100)
    await require_found(deliveries, attempt, deliveries.made()[0]["id"])


async def test_a_list_that_is_too_long_is_undecidable(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose()
    for number in range(250):
        deliveries.make_by_hand(title=f"Vase {number}", description=None, link=None)
    assert await deliveries.look(max_pages=1)
    assert "too long" in await require_unconfirmed(deliveries, attempt)


@pytest.mark.parametrize("fault", ["cut_after", "cut_before"])
async def test_equal_pins_that_were_made_by_hand_are_never_adopted(
    deliveries: Deliveries, fault: str
) -> None:
    attempt = await deliveries.lose(fault)
    deliveries.make_by_hand()
    deliveries.make_by_hand()
    assert await deliveries.look()
    message = await require_unconfirmed(deliveries, attempt)
    assert "may_double=true" in message


async def test_a_similar_pin_prevents_that_the_pin_is_sent_again(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose("cut_before")
    deliveries.make_by_hand(title="The page's own title")
    assert await deliveries.look()
    await deliveries.pass_time()
    assert await deliveries.look()
    await require_unconfirmed(deliveries, attempt)


async def test_pins_of_pinflow_are_never_mistaken_for_the_pin(deliveries: Deliveries) -> None:
    first = await deliveries.begin(await deliveries.add_pin())
    made = await deliveries.send(first)
    assert isinstance(made, str)
    async with deliveries.database.transaction() as connection:
        driver = await driver_connection(connection)
        await publish_pin(driver, first, AttemptOutcome.CREATED, made)
    attempt = await deliveries.lose("cut_before")
    assert await deliveries.look()
    await deliveries.pass_time()
    assert await deliveries.look()
    assert (await deliveries.read_pin(attempt.pin_id))["state"] == PinState.QUEUED


async def test_two_unsettled_pins_with_one_link_are_both_settled(deliveries: Deliveries) -> None:
    made = await deliveries.lose("cut_after", title="Vase")
    missing = await deliveries.lose("cut_before", title="Chair")
    for _ in range(2):
        while await deliveries.look():
            pass
        await deliveries.pass_time()
    assert (await deliveries.read_pin(made.pin_id))["state"] == PinState.PUBLISHED
    assert (await deliveries.read_pin(missing.pin_id))["state"] == PinState.QUEUED


async def test_a_link_mark_finds_the_pin_among_equal_ones(deliveries: Deliveries) -> None:
    deliveries.make_by_hand()
    attempt = await deliveries.lose(is_marked=True)
    deliveries.make_by_hand()
    assert await deliveries.look()
    await require_found(deliveries, attempt, deliveries.made()[1]["id"])


async def test_a_board_that_is_gone_has_no_pins(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose("cut_before")
    gone = deliveries.simulator.call(
        "DELETE", f"/boards/{deliveries.board_id}", deliveries.tokens.value
    )
    gone.raise_for_status()
    assert await deliveries.look()
    await deliveries.pass_time()
    assert await deliveries.look()
    assert (await deliveries.read_pin(attempt.pin_id))["state"] == PinState.QUEUED


async def test_a_refused_token_is_refreshed_once(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose()
    deliveries.simulator.break_tokens(deliveries.user["username"], "expire_access")
    assert await deliveries.look()
    assert deliveries.tokens.version == 2
    await require_found(deliveries, attempt, deliveries.made()[0]["id"])


@pytest.mark.parametrize("fault", ["rate_limit", "error_before", "cut_before", "token"])
async def test_a_board_that_can_not_be_read_is_no_look(deliveries: Deliveries, fault: str) -> None:
    attempt = await deliveries.lose("cut_before")
    deliveries.simulator.set_faults(
        fault, operation="boards/list_pins", account_id=deliveries.user["id"]
    )
    for _ in range(3):
        assert await deliveries.look()
        await deliveries.pass_time(10_000)
    (stored,) = await deliveries.read_attempts(attempt.pin_id)
    assert (stored["outcome"], stored["absent_at"], stored["looks"]) == (None, None, 3)


async def test_a_pin_whose_sender_ended_is_confirmed(deliveries: Deliveries) -> None:
    attempt = await deliveries.begin(await deliveries.add_pin())
    made = await deliveries.send(attempt)  # and then the process ends
    assert (await deliveries.read_pin(attempt.pin_id))["state"] == PinState.PUBLISHING
    assert await deliveries.look()
    assert isinstance(made, str)
    await require_found(deliveries, attempt, made)


async def test_an_answer_that_came_late_is_not_confirmed(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose("cut_before")
    repository = ConfirmingRepository(deliveries.database, MODE, deliveries.log.require_open)
    assert await repository.start_look(deliveries.lease) is not None
    async with deliveries.database.transaction() as connection:
        driver = await driver_connection(connection)
        await publish_pin(driver, attempt, AttemptOutcome.CREATED, "17")
    async with repository.lock_attempt(attempt) as unsettled:
        assert unsettled is None


async def test_looks_of_two_processes_publish_a_pin_once(deliveries: Deliveries) -> None:
    attempt = await deliveries.lose()
    await asyncio.gather(deliveries.look(), deliveries.look())
    await require_found(deliveries, attempt, deliveries.made()[0]["id"])


async def test_invariant_12_two_pins_never_adopt_the_same_id(deliveries: Deliveries) -> None:
    first, second = await deliveries.lose(), await deliveries.lose("cut_before", title="Vase")
    repository = ConfirmingRepository(deliveries.database, MODE, deliveries.log.require_open)
    made_id = deliveries.made()[0]["id"]

    async def adopt(attempt: DeliveryAttempt) -> None:
        async with repository.lock_attempt(attempt) as unsettled:
            assert unsettled is not None
            await unsettled.adopt(made_id)

    await adopt(first)
    with pytest.raises(AdoptedElsewhere):
        await adopt(second)
    (stored,) = await deliveries.read_attempts(second.pin_id)
    assert stored["outcome"] is None


async def test_nothing_is_decided_while_an_older_postgres_may_lack_attempts(
    deliveries: Deliveries,
) -> None:
    attempt = await deliveries.lose()
    deliveries.log.closed = Unavailable("Kafka is read first.")
    with pytest.raises(Unavailable):
        await deliveries.look()
    assert (await deliveries.read_attempts(attempt.pin_id))[0]["outcome"] is None


class ScarceBudget:
    """A budget that has one read, and the next one only after a wait."""

    def __init__(self) -> None:
        self._level = 1

    async def require(self, _account_id: UUID, _category: Category) -> None:
        if not self._level:
            self._level = 1
            raise Postponed(0.01)
        self._level = 0


async def test_a_list_with_more_pages_than_the_budget_has_reads_is_read_to_its_end(
    deliveries: Deliveries,
) -> None:
    attempt = await deliveries.lose()
    (made,) = deliveries.made()
    for number in range(PAGE_SIZE):
        deliveries.make_by_hand(title=f"Other lamp {number}")
    deliveries.budget = ScarceBudget()  # type: ignore[assignment]
    assert await deliveries.look()
    await require_found(deliveries, attempt, made["id"])


async def test_a_pin_that_was_sent_in_another_mode_is_unconfirmed_after_a_week(
    deliveries: Deliveries,
) -> None:
    """The mode may change back until then. Without an end, nobody could delete or retry it."""
    attempt = await deliveries.lose()
    await deliveries.execute(
        "update publisher.delivery_attempts set mode = 'sandbox' where attempt_id = %s",
        (attempt.attempt_id,),
    )
    assert not await deliveries.look()
    await deliveries.execute(
        "update publisher.delivery_attempts set deadline_at = deadline_at - interval '8 days' "
        "where attempt_id = %s",
        (attempt.attempt_id,),
    )
    assert await deliveries.look()
    await deliveries.pass_time()
    assert await deliveries.look()
    await require_unconfirmed(deliveries, attempt)
