"""The same scenarios on the store in memory, which property tests use, and on Postgres."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from services.publisher.delivery.confirming.confirmer import Confirmer
from services.publisher.delivery.model import (
    AccountLease,
    AttemptOutcome,
    ComparedTexts,
    DeliveryAttempt,
)
from services.publisher.model import PinState
from shared.pinterest.failures import AnswerLost
from shared.postgres.database import Database
from tests.property.publisher.delivery_world import (
    CONFIRM_SECONDS,
    FixedTokens,
    MemoryLog,
    NoBudget,
)
from tests.support.delivery.memory_store import MemoryStore, PinRow
from tests.support.delivery.pinterest_model import HAND, PinterestModel
from tests.support.delivery.postgres_store import PostgresStore

LAMP = ComparedTexts("Lamp", "Warm light", None, "https://shop.example/lamps")
VASE = LAMP._replace(title="Vase")
DEADLINE_SECONDS = 30.0


class Scenario:
    """One account, its store and Pinterest."""

    def __init__(self, store: MemoryStore | PostgresStore) -> None:
        self.store = store
        self.pinterest = PinterestModel(store.now)
        if isinstance(store, PostgresStore):
            store.pinterest = self.pinterest
        self.log = MemoryLog(store.now)
        self.account_id = uuid4()
        self.board_id = str(uuid4().int)
        self.confirmer = Confirmer(
            store,
            self.pinterest.client,
            FixedTokens(),
            NoBudget(),
            self.log,
            confirm_seconds=CONFIRM_SECONDS,
            max_pages=3,
        )

    async def send(
        self, texts: ComparedTexts = LAMP, *, is_made: bool = True, pin_id: UUID | None = None
    ) -> DeliveryAttempt:
        """Sends a pin whose answer is lost."""
        if pin_id is None:
            pin_id = uuid4()
            await self.store.add_pin(pin_id, self.account_id, self.board_id, texts)
        attempt = await self.store.send(pin_id, DEADLINE_SECONDS)
        if is_made:
            self.make(texts, pin_id)
        return attempt

    def make(self, texts: ComparedTexts = LAMP, origin: UUID | None = HAND) -> str:
        name = f"{uuid4().int}"
        made = self.pinterest.find(self.pinterest.create(self.board_id, texts, origin))
        made.pinterest_pin_id = name  # ids are unique in the module's database
        return name

    async def look(self) -> bool:
        await self.store.refresh_time()
        lease = AccountLease(self.account_id, self.store.workspace_id, 1, self.store.now())
        return await self.confirmer.run(lease)

    async def look_twice(self) -> None:
        """Takes all looks that are due, and all second ones."""
        for seconds in (DEADLINE_SECONDS + 1, CONFIRM_SECONDS + 1):
            await self.store.advance(seconds)
            while await self.look():
                pass

    async def read(self, attempt: DeliveryAttempt) -> tuple[PinRow, list[AttemptOutcome | None]]:
        pin_id = attempt.pin_id
        return await self.store.read_pin(pin_id), await self.store.read_outcomes(pin_id)


@pytest.fixture(params=["memory", "postgres"])
def scenario(request: pytest.FixtureRequest, publisher_database: Database) -> Scenario:
    stores: dict[str, Callable[[], MemoryStore | PostgresStore]] = {
        "memory": MemoryStore,
        "postgres": lambda: PostgresStore(publisher_database),
    }
    return Scenario(stores[request.param]())


async def test_no_look_is_due_before_the_deadline(scenario: Scenario) -> None:
    attempt = await scenario.send()
    assert not await scenario.look()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, outcomes) == (PinState.PUBLISHING, [None])


async def test_a_made_pin_is_published_once(scenario: Scenario) -> None:
    attempt = await scenario.send()
    await scenario.look_twice()
    pin, outcomes = await scenario.read(attempt)
    assert pin.state is PinState.PUBLISHED
    assert pin.pinterest_pin_id == scenario.pinterest.pins[0].pinterest_pin_id
    assert (pin.events, outcomes) == (["published"], [AttemptOutcome.FOUND])


async def test_an_absent_pin_is_queued_after_two_looks(scenario: Scenario) -> None:
    attempt = await scenario.send(is_made=False)
    await scenario.store.advance(DEADLINE_SECONDS + 1)
    assert await scenario.look()
    assert not await scenario.look()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, outcomes) == (PinState.CONFIRMING, [None])
    await scenario.store.advance(CONFIRM_SECONDS + 1)
    assert await scenario.look()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, pin.events, outcomes) == (PinState.QUEUED, [], [AttemptOutcome.ABSENT])


async def test_several_equal_pins_leave_the_pin_unconfirmed(scenario: Scenario) -> None:
    attempt = await scenario.send()
    scenario.make()
    await scenario.look_twice()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, pin.error_code) == (PinState.FAILED, "publish_unconfirmed")
    assert (pin.events, outcomes) == (["failed"], [AttemptOutcome.UNCONFIRMED])


async def test_another_attempts_pin_is_not_similar(scenario: Scenario) -> None:
    made, absent = await scenario.send(VASE), await scenario.send(LAMP, is_made=False)
    await scenario.look_twice()
    pins = [(await scenario.read(attempt))[0].state for attempt in (made, absent)]
    assert pins == [PinState.PUBLISHED, PinState.QUEUED]


async def test_a_pin_of_an_unconfirmed_attempt_is_not_adopted(scenario: Scenario) -> None:
    first = await scenario.send()
    scenario.make()
    await scenario.store.advance(DEADLINE_SECONDS + 1)
    assert await scenario.look()
    scenario.pinterest.pins.pop()
    second = await scenario.send(is_made=False)
    await scenario.look_twice()
    pins = [(await scenario.read(attempt))[0].state for attempt in (first, second)]
    assert pins == [PinState.FAILED, PinState.FAILED]


async def test_a_board_that_can_not_be_read_settles_nothing(scenario: Scenario) -> None:
    attempt = await scenario.send(is_made=False)
    await scenario.store.advance(DEADLINE_SECONDS + 1)
    for _ in range(3):
        scenario.pinterest.failures = [AnswerLost("boards/list_pins", "cut")]
        assert await scenario.look()
        assert not await scenario.look()
        await scenario.store.advance(1000)
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, outcomes) == (PinState.CONFIRMING, [None])


async def test_a_late_answer_wins_while_nothing_is_settled(scenario: Scenario) -> None:
    attempt = await scenario.send()
    made_id = scenario.pinterest.pins[0].pinterest_pin_id

    async def answer() -> None:
        assert await scenario.store.settle_late(attempt, AttemptOutcome.CREATED, made_id)

    await scenario.store.advance(DEADLINE_SECONDS + 1)
    scenario.pinterest.after_list = [answer]
    assert await scenario.look()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.pinterest_pin_id, outcomes) == (made_id, [AttemptOutcome.CREATED])
    assert pin.events == ["published"]


async def test_a_late_answer_changes_nothing_that_is_settled(scenario: Scenario) -> None:
    attempt = await scenario.send(is_made=False)
    await scenario.look_twice()
    assert not await scenario.store.settle_late(attempt, AttemptOutcome.CREATED, "17")
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, outcomes) == (PinState.QUEUED, [AttemptOutcome.ABSENT])


async def test_a_pin_is_sent_again_after_it_was_absent(scenario: Scenario) -> None:
    attempt = await scenario.send(is_made=False)
    await scenario.look_twice()
    await scenario.send(pin_id=attempt.pin_id)
    await scenario.look_twice()
    pin, outcomes = await scenario.read(attempt)
    assert pin.state is PinState.PUBLISHED
    assert outcomes == [AttemptOutcome.ABSENT, AttemptOutcome.FOUND]


async def test_two_looks_at_once_settle_a_pin_once(scenario: Scenario) -> None:
    attempt = await scenario.send(is_made=False)
    await scenario.store.advance(DEADLINE_SECONDS + 1)

    async def look() -> None:
        await scenario.look()

    scenario.pinterest.after_list = [look]
    assert await scenario.look()
    pin, outcomes = await scenario.read(attempt)
    assert (pin.state, outcomes) == (PinState.CONFIRMING, [None]), "both were first looks"


async def test_the_id_of_a_pins_earlier_attempt_is_known(scenario: Scenario) -> None:
    first = await scenario.send()
    made = scenario.make(origin=first.pin_id)
    second = await scenario.store.send(first.pin_id, DEADLINE_SECONDS)
    assert await scenario.store.settle_late(second, AttemptOutcome.CREATED, made)
    await scenario.store.advance(DEADLINE_SECONDS + 1)
    assert await scenario.look()
    pin, outcomes = await scenario.read(first)
    assert pin.pinterest_pin_id == made
    assert outcomes == [AttemptOutcome.FOUND, AttemptOutcome.CREATED]
    third = await scenario.send(is_made=False)
    await scenario.look_twice()
    assert (await scenario.read(third))[0].state is PinState.QUEUED


async def test_a_pin_that_was_listed_after_a_persons_equal_one_is_not_adopted(
    scenario: Scenario,
) -> None:
    by_hand = scenario.make()
    first = await scenario.send(is_made=False)
    await scenario.store.advance(DEADLINE_SECONDS + 1)
    assert await scenario.look()
    assert (await scenario.read(first))[0].pinterest_pin_id == by_hand
    second = await scenario.send(is_made=False)
    scenario.make(origin=first.pin_id)  # in both windows, and listed late
    await scenario.look_twice()
    assert (await scenario.read(second))[0].error_code == "publish_unconfirmed"
