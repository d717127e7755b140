"""Uses of keys are gathered, written once a minute, and cost nobody anything when they can't be."""

from collections.abc import Collection
from uuid import UUID, uuid4

import pytest

from shared.access.usage import EVERY_SECONDS, KeyUsage
from shared.contract.errors import DatabaseUnavailable

A, B = uuid4(), uuid4()


class Written:
    def __init__(self) -> None:
        self.statements: list[set[UUID]] = []
        self.fault: Exception | None = None

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        if self.fault is not None:
            raise self.fault
        self.statements.append(set(key_ids))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_many_uses_of_many_keys_are_one_statement_a_minute() -> None:
    written, clock = Written(), Clock()
    usage = KeyUsage(written, clock)
    for key in (A, B, A):
        usage.note(key)
    await usage.write()
    usage.note(A)
    await usage.write()
    assert written.statements == [{A, B}]
    clock.now += EVERY_SECONDS
    usage.note(A)
    await usage.write()
    assert written.statements == [{A, B}, {A}]


@pytest.mark.parametrize("fault", [DatabaseUnavailable("away"), RuntimeError("no such right")])
async def test_what_cannot_be_written_is_let_go_and_noted_again_later(fault: Exception) -> None:
    written, clock = Written(), Clock()
    usage = KeyUsage(written, clock)
    usage.note(A)
    written.fault = fault
    assert await usage.write() == 0
    written.fault = None
    await usage.write()
    assert written.statements == []
    clock.now += EVERY_SECONDS
    usage.note(A)
    await usage.write()
    assert written.statements == [{A}]
