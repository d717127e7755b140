"""Many pins in one call: each as if it had come alone, in the order of the list."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from services.publisher.pins.commands import Direct, PinCommands
from services.publisher.pins.requests import pin_of, pins_of
from services.publisher.pins.transitions import require_destination, require_permitted, usable
from shared.access.cache import BoardDirectory
from shared.access.model import BoardCheck, Destination, Principal
from shared.contract.errors import RequestRefused
from shared.contract.events import MAX_KEY, RowStatus
from shared.contract.pins import printable
from shared.postgres.row import Row


class Item(NamedTuple):
    """What became of one: what stands under its key, or why it failed."""

    key: str
    status: RowStatus
    row: Row | None = None
    payload_matches: bool | None = None
    refusal: RequestRefused | None = None


class Batches:
    def __init__(self, commands: PinCommands, boards: BoardDirectory, most: int) -> None:
        self._commands = commands
        self._boards = boards
        self._most = most

    async def publish(self, who: Principal, document: object) -> list[Item]:
        """One transaction for all that are valid; a fault fails its item alone.

        Raises RequestRefused for the whole.
        """
        documents = pins_of(document, self._most)
        asked = [_asked(who, one) for one in documents]
        pins = [one for one in asked if isinstance(one, Direct)]
        failing = await self._boards.failing({_destination(pin) for pin in pins})
        firsts: dict[UUID, Direct] = {}  # of equal keys the first that may be published
        for pin in pins:
            if _destination(pin) not in failing:
                firsts.setdefault(pin.pin_id, pin)
        stands, new = await self._commands.publish_all(
            list(firsts.values()), {pin.pin_id for pin in pins}
        )
        settling = _Settling(who, failing, stands, {pin_id: firsts[pin_id] for pin_id in new})
        return [
            settling.item(one, document) for one, document in zip(asked, documents, strict=True)
        ]


class _Settling:
    """What each item is told, one after the other."""

    def __init__(
        self,
        who: Principal,
        failing: Mapping[Destination, BoardCheck],
        stands: Mapping[UUID, Row],
        winners: Mapping[UUID, Direct],
    ) -> None:
        self._who = who
        self._failing = failing
        self._stands = stands
        self._to_come = dict(winners)
        """Whose turn has not come: before it, nothing stands under their keys."""

    def item(self, asked: Direct | RequestRefused, document: object) -> Item:
        if isinstance(asked, RequestRefused):
            return Item(_key_of(document), RowStatus.FAILED, refusal=asked)
        key = asked.content.idempotency_key
        try:
            return self._settled(asked, key)
        except RequestRefused as refusal:
            return Item(key, RowStatus.FAILED, refusal=refusal)

    def _settled(self, pin: Direct, key: str) -> Item:
        row = self._stands.get(pin.pin_id)
        winner = self._to_come.get(pin.pin_id)
        if winner is pin:
            del self._to_come[pin.pin_id]
        if row is None or (winner is not None and winner is not pin):
            require_destination(self._failing, _destination(pin))
        if row is None:
            raise AssertionError("a pin that could be published was not")
        if winner is pin:
            return Item(key, RowStatus.CREATED, row)
        return Item(
            key,
            RowStatus.EXISTING,
            usable(self._who, key, row),
            row["fingerprint"] == pin.fingerprint,
        )


def _asked(who: Principal, document: object) -> Direct | RequestRefused:
    try:
        content = pin_of(document)
        require_permitted(who, content.account_id)
    except RequestRefused as refusal:
        return refusal
    return Direct.of(who.workspace_id, content)


def _destination(pin: Direct) -> Destination:
    return Destination(pin.workspace_id, pin.content.account_id, pin.content.board_id)


def _key_of(document: Any) -> str:
    """As it was sent, of what could not be read; the SDK wants a text."""
    key = document.get("idempotency_key") if isinstance(document, dict) else None
    return printable(key, MAX_KEY) if isinstance(key, str) else ""
