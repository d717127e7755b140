"""The delivery's rules under crashes, lost answers, late lists and restores (invariant 12).

The steps of two workers, users, Pinterest and restores happen in any order. At the end the model
of Pinterest, which knows for which pin it made each of its pins, is compared with Pinflow's.
"""

from collections import Counter
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.publisher.delivery.model import ComparedTexts
from services.publisher.model import PinState
from tests.property.profiles import examples
from tests.property.publisher.delivery_world import (
    CONFIRM_SECONDS,
    LEASE_SECONDS,
    MAX_LATE_SECONDS,
    Answer,
    Step,
    World,
    run,
)
from tests.support.delivery.memory_store import Tables
from tests.support.delivery.pinterest_model import HAND

ACCOUNTS = (uuid4(), uuid4())
BOARDS = ("101", "102")
"""The first account and the second each have a board."""
LINK = "https://shop.example/lamps"
TEXTS = (
    ComparedTexts("Lamp", "Warm light", None, LINK),
    ComparedTexts("Vase", "Cold clay", None, LINK),  # similar: the link is equal
    ComparedTexts("Chair", None, None, None),
)
STEPS = {Step.BEGIN, Step.ANNOUNCE, Step.SEND, Step.SETTLE}

texts = st.sampled_from(TEXTS)
accounts = st.sampled_from((0, 1))
workers = st.sampled_from((0, 1))
late = st.sampled_from((0.0, 20.0, MAX_LATE_SECONDS))
answers = st.sampled_from(
    [Answer.CREATED, Answer.LOST_AFTER, Answer.LOST_AFTER, Answer.LOST_BEFORE, *Answer]
)
pauses = st.sampled_from((1.0, LEASE_SECONDS + 1, CONFIRM_SECONDS, CONFIRM_SECONDS + 5))
meanwhile = st.sampled_from(("nothing", "other look", "time", "other worker"))


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.backups: list[Tables] = []

    @initialize()
    def begin(self) -> None:
        self.backups = [self.world.store.copy()]

    # Users

    @rule(account=accounts, text=texts)
    def queue_a_pin(self, account: int, text: ComparedTexts) -> None:
        run(self.world.queue(ACCOUNTS[account], BOARDS[account], text))

    @precondition(lambda self: self._failed())
    @rule(data=st.data())
    def send_a_failed_pin_again(self, data: st.DataObject) -> None:
        self.world.retry(data.draw(st.sampled_from(self._failed())))

    @rule(account=accounts, text=texts)
    def make_an_equal_pin_by_hand(self, account: int, text: ComparedTexts) -> None:
        self.world.pinterest.create(BOARDS[account], text, HAND)

    # Workers

    @rule(number=workers, account=accounts)
    def lease(self, number: int, account: int) -> None:
        worker = self.world.workers[number]
        if worker.step is Step.LEASE:
            run(self.world.lease(worker, ACCOUNTS[account]))

    @rule(number=workers, answer=answers, late_seconds=late)
    def take_the_next_step(self, number: int, answer: Answer, late_seconds: float) -> None:
        self._step(number, answer, late_seconds)

    @rule(number=workers, account=accounts, answer=answers, late_seconds=late)
    def take_a_whole_turn(
        self, number: int, account: int, answer: Answer, late_seconds: float
    ) -> None:
        self.lease(number, account)
        for _ in STEPS:
            self._step(number, answer, late_seconds)

    @rule(number=workers)
    def crash(self, number: int) -> None:
        self.world.crash(number)

    @rule(account=accounts, seed=st.integers(0, 3), size=st.sampled_from((1, 2, 250)))
    def look(self, account: int, seed: int, size: int) -> None:
        self.world.pinterest.seed, self.world.pinterest.page_size = seed, size
        run(self.world.confirm(ACCOUNTS[account]))

    @rule(account=accounts, event=meanwhile, seconds=pauses, number=workers)
    def look_while_something_happens(
        self, account: int, event: str, seconds: float, number: int
    ) -> None:
        async def happen() -> None:
            match event:
                case "other look":
                    await self.world.confirm(ACCOUNTS[account])
                case "time":
                    await self.world.store.advance(seconds)
                case "other worker":
                    await self.world.step(number, Answer.CREATED, 0)

        self.world.pinterest.after_list = [happen]
        run(self.world.confirm(ACCOUNTS[account]))
        self.world.pinterest.after_list = []

    # Time and restores

    @rule(seconds=pauses)
    def wait(self, seconds: float) -> None:
        run(self.world.store.advance(seconds))

    @rule()
    def back_up(self) -> None:
        self.backups.append(self.world.store.copy())

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        run(self.world.restore(data.draw(st.sampled_from(self.backups))))

    @rule(loses=st.booleans())
    def lose_settlements_in_kafka(self, loses: bool) -> None:
        self.world.log.loses_settlements = loses

    # What always holds

    @invariant()
    def at_most_one_creation_per_publication(self) -> None:
        """Invariant 12: a second one needs a person who accepted it after publish_unconfirmed."""
        for pin_id, publication in self.world.publications.items():
            made = self.world.pinterest.made_for(pin_id)
            assert len(made) <= 1 + publication.may_double, (pin_id, made)

    @invariant()
    def every_published_pin_is_on_pinterest(self) -> None:
        for pin in self.world.store.tables.pins.values():
            assert (pin.state is PinState.PUBLISHED) == (pin.pinterest_pin_id is not None)
            if pin.pinterest_pin_id is None:
                continue
            made = self.world.pinterest.find(pin.pinterest_pin_id)
            assert (made.board_id, made.texts) == (pin.board_id, pin.texts)
            # A pin that a person made in the same minutes, and that is equal, can't be told from it
            assert made.origin in {pin.pin_id, HAND}, (pin, made)

    @invariant()
    def no_id_is_adopted_twice(self) -> None:
        ids = Counter(pin.pinterest_pin_id for pin in self.world.store.tables.pins.values())
        del ids[None]
        assert set(ids.values()) <= {1}, ids

    @invariant()
    def a_pin_is_published_at_most_once(self) -> None:
        for pin in self.world.store.tables.pins.values():
            assert pin.events.count("published") <= 1, pin

    def teardown(self) -> None:
        """Everything ends, and nothing that was made is forgotten."""
        run(self.world.finish())
        self.at_most_one_creation_per_publication()
        self.every_published_pin_is_on_pinterest()
        self.no_id_is_adopted_twice()
        pins = self.world.store.tables.pins
        assert pins.keys() == self.world.publications.keys()
        for pin in pins.values():
            is_unconfirmed = pin.error_code == "publish_unconfirmed"
            assert pin.state is PinState.PUBLISHED or is_unconfirmed, pin

    def _failed(self) -> list[UUID]:
        pins = self.world.store.tables.pins.values()
        return [pin.pin_id for pin in pins if pin.state is PinState.FAILED]

    def _step(self, number: int, answer: Answer, late_seconds: float) -> None:
        run(self.world.step(number, answer, late_seconds))


def test_pins_are_delivered_at_most_once() -> None:
    run_state_machine_as_test(DeliveryMachine, settings=examples(300))
