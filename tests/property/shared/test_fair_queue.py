"""A fair queue loses no slot, keeps its limits, and serves every waiting key in turn."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.limits.reservations import FairQueue, Reservation
from tests.property.profiles import examples

KEYS = "abc"
STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "acquire", "release", "cancel"]), st.integers(0, 30)),
    max_size=60,
)


class QueueSimulation:
    """Acquires, holds, releases and cancels slots in any order."""

    def __init__(self, slots: int, per_key: int) -> None:
        self.queue: FairQueue[str] = FairQueue(slots, slots_per_key=per_key, timeout_seconds=60)
        self.slots = slots
        self.per_key = per_key
        self.held: list[tuple[str, Reservation]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.skipped: Counter[str] = Counter()
        """Slots granted to other keys while this key waited and was within its limit."""

    async def step(self, action: str, number: int) -> None:
        if action == "acquire":
            self.tasks.append(asyncio.create_task(self._acquire(KEYS[number % len(KEYS)])))
        elif action == "release" and self.held:
            self.held.pop(number % len(self.held))[1].release()
        elif action == "cancel" and self.tasks:
            self.tasks[number % len(self.tasks)].cancel()
        if number % 2:  # otherwise the next step follows before any task runs
            await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _acquire(self, key: str) -> None:
        reservation = await self.queue.acquire(key)
        self.held.append((key, reservation))
        for other in KEYS:
            if other != key and self._is_eligible(other):
                self.skipped[other] += 1
        self.skipped[key] = 0

    def _is_eligible(self, key: str) -> bool:
        return self.queue.waiting(key) > 0 and self.queue.held(key) < self.per_key

    def check(self) -> None:
        holders = Counter(key for key, _ in self.held)
        assert sum(holders.values()) <= self.slots
        assert all(count <= self.per_key for count in holders.values())
        for key in KEYS:
            assert self.queue.held(key) == holders[key]
            if not self._is_eligible(key):
                self.skipped[key] = 0
            elif sum(holders.values()) < self.slots:
                raise AssertionError(f"{key} waits although a slot is free")


@examples(200)
@given(st.integers(1, 4), st.integers(1, 4), STEPS)
def test_no_slot_is_lost_and_no_limit_is_exceeded(
    slots: int, per_key: int, steps: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        simulation = QueueSimulation(slots, per_key)
        for action, number in steps:
            await simulation.step(action, number)
            await simulation.settle()
            simulation.check()
            # A round grants each other key one slot. A slot that is released meanwhile may go to a
            # key that joined before
            assert all(count <= 2 * (len(KEYS) - 1) for count in simulation.skipped.values())
        while simulation.held:
            await simulation.step("release", 1)
            simulation.check()
        queue = simulation.queue
        await asyncio.gather(*simulation.tasks, return_exceptions=True)
        assert (dict(queue._queues), dict(queue._held), dict(queue._round)) == ({}, {}, {})
        assert queue._free == slots

    asyncio.run(run())
