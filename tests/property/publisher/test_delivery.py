"""The delivery's rules under crashes, lost answers, late lists and restores (invariant 12).

The steps of two workers, users, Pinterest and restores happen in any order. At the end the model
of Pinterest, which knows for which pin it made each of its pins, is compared with Pinflow's.
"""

from collections import Counter
from uuid import UUID

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

ACCOUNTS = (UUID(int=2**64), UUID(int=2**64 + 1))
BOARD = "101"
"""Both accounts have the same board: a Pinterest user may be connected in two workspaces."""
LINK = "https://shop.example/lamps"
TEXTS = (
    ComparedTexts("Lamp", "Warm light", None, LINK),
    ComparedTexts("Vase", "Cold clay", None, LINK),  # similar: the link is equal
    ComparedTexts("Chair", None, None, None),
)

texts = st.sampled_from(TEXTS)
accounts = st.sampled_from((0, 0, 1))
workers = st.sampled_from((0, 1))
late = st.sampled_from((MAX_LATE_SECONDS, 0.0, 20.0))
answers = st.sampled_from([*Answer, Answer.LOST_AFTER, Answer.LOST_AFTER, Answer.LOST_BEFORE])
pauses = st.sampled_from((LEASE_SECONDS + 1, 0.0, 1.0, 60.0, CONFIRM_SECONDS))
meanwhile = st.sampled_from(("nothing", "other look", "time", "other worker"))


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.backups: list[Tables] = []

    @initialize(lamps=st.integers(1, 2), others=st.lists(st.tuples(accounts, texts), max_size=2))
    def begin(self, lamps: int, others: list[tuple[int, ComparedTexts]]) -> None:
        """Queues pins, some of which are equal, after a first backup."""
        self.backups = [self.world.store.copy()]
        for account, text in [(0, TEXTS[0])] * lamps + others:
            self.queue_a_pin(account, text)

    # Users

    @rule(account=accounts, text=texts)
    def queue_a_pin(self, account: int, text: ComparedTexts) -> None:
        run(self.world.queue(ACCOUNTS[account], BOARD, text))

    @precondition(lambda self: self._failed())
    @rule(data=st.data())
    def send_a_failed_pin_again(self, data: st.DataObject) -> None:
        self.world.retry(data.draw(st.sampled_from(self._failed())))

    # Workers

    @rule(
        number=workers,
        account=accounts,
        steps=st.sampled_from((5, 1, 2, 3, 4)),
        answer=answers,
        late_seconds=late,
    )
    def take_steps(
        self, number: int, account: int, steps: int, answer: Answer, late_seconds: float
    ) -> None:
        """Takes some steps of a turn. A turn has five, the first of which leases an account."""
        for _ in range(steps):
            run(self.world.step(number, ACCOUNTS[account], answer, late_seconds))

    @rule(number=workers, account=accounts, answer=answers, late_seconds=late)
    def take_a_turn(self, number: int, account: int, answer: Answer, late_seconds: float) -> None:
        self.take_steps(number, account, len(Step), answer, late_seconds)

    @rule(
        account=accounts,
        before=pauses,
        seed=st.integers(0, 3),
        size=st.sampled_from((250, 2, 1)),
        event=meanwhile,
        seconds=pauses,
        number=workers,
    )
    def look(
        self,
        account: int,
        before: float,
        seed: int,
        size: int,
        event: str,
        seconds: float,
        number: int,
    ) -> None:
        """Takes a look at a board. `event` happens after its last page, before the decision."""

        async def happen() -> None:
            match event:
                case "other look":
                    await self.world.confirm(ACCOUNTS[account])
                case "time":
                    await self.world.store.advance(seconds)
                case "other worker":
                    await self.world.step(number, ACCOUNTS[account], Answer.CREATED, 0)

        self.wait(before)
        self.world.pinterest.seed, self.world.pinterest.page_size = seed, size
        self.world.pinterest.after_list = [happen]
        run(self.world.confirm(ACCOUNTS[account]))
        self.world.pinterest.after_list = []

    # Faults. One rule, so that most steps are those of workers

    @rule(
        fault=st.sampled_from(("wait", "crash", "hand", "back up", "restore", "lossy log")),
        number=workers,
        text=texts,
        seconds=pauses,
        backup=st.integers(0, 5),
    )
    def disturb(
        self, fault: str, number: int, text: ComparedTexts, seconds: float, backup: int
    ) -> None:
        match fault:
            case "wait":
                self.wait(seconds)
            case "crash":
                self.world.crash(number)
            case "hand":
                self.world.pinterest.create(BOARD, text, HAND)
            case "back up":
                self.backups.append(self.world.store.copy())
            case "restore":
                run(self.world.restore(self.backups[backup % len(self.backups)]))
            case "lossy log":
                self.world.log.loses_settlements = not self.world.log.loses_settlements

    def wait(self, seconds: float) -> None:
        run(self.world.store.advance(seconds))

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
            # A person's equal pin may be taken for it, if only that one is listed
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


def test_pins_are_delivered_at_most_once() -> None:
    run_state_machine_as_test(DeliveryMachine, settings=examples(400))
