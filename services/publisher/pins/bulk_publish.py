"""Publishes many pins in one call, with the results of single calls in the list's order."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from services.publisher.existing_pins import ContentComparison
from services.publisher.pins.creation import (
    NewPin,
    OnMismatch,
    PinOfKey,
    compare_with_pin,
    resolve_existing,
)
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.request_bodies import parse_pin, parse_pins
from services.publisher.pins.transitions import require_destination
from shared.access.cache import BoardCache
from shared.access.model import BoardResult, Destination, Principal
from shared.contract.errors import ApiError
from shared.contract.events import MAX_KEY_LENGTH, RowStatus
from shared.contract.pins import make_printable
from shared.postgres.row import Row

FailedChecks: TypeAlias = Mapping[Destination, BoardResult]


class BulkPublishItem(NamedTuple):
    """The result of one item: the pin of its key, or the error."""

    key: str
    status: RowStatus
    row: Row | None = None
    comparison: ContentComparison | None = None
    """The sent content compared with an existing pin."""
    error: ApiError | None = None


class BulkPublishService:
    def __init__(self, pins: PinRepository, boards: BoardCache, limit: int) -> None:
        self._pins = pins
        self._boards = boards
        self._limit = limit

    async def publish(
        self,
        principal: Principal,
        document: object,
        on_mismatch: OnMismatch = OnMismatch.RETURN,
    ) -> list[BulkPublishItem]:
        """Publishes all valid pins in one transaction. A fault fails only its item.

        Raises ApiError if the list itself is invalid, and as `PinRepository.publish_all` does.
        """
        documents = parse_pins(document, self._limit)
        items = [_parse_item(principal, item) for item in documents]
        pins = [item for item in items if isinstance(item, NewPin)]
        checks = await self._boards.check({pin.destination for pin in pins})
        first_pins = _select_first_publishable(pins, checks.failing)
        pins_of_keys = await self._pins.publish_all(
            [pin.mark(checks) for pin in first_pins.values()], {pin.pin_id for pin in pins}
        )
        created = {pin_id: pin for pin_id, pin in first_pins.items() if pins_of_keys[pin_id].is_new}
        settler = _ItemSettler(principal, on_mismatch, checks.failing, pins_of_keys, created)
        return [
            settler.settle(item, document) for item, document in zip(items, documents, strict=True)
        ]


class _ItemSettler:
    """Decides the items' results, one after the other."""

    def __init__(
        self,
        principal: Principal,
        on_mismatch: OnMismatch,
        failing: FailedChecks,
        pins_of_keys: Mapping[UUID, PinOfKey],
        created: Mapping[UUID, NewPin],
    ) -> None:
        self._principal = principal
        self._on_mismatch = on_mismatch
        self._failing = failing
        self._pins_of_keys = pins_of_keys
        self._not_reached = dict(created)
        """The created pins whose items are not settled yet. Until then their keys count as free."""

    def settle(self, item: NewPin | ApiError, document: object) -> BulkPublishItem:
        if isinstance(item, ApiError):
            return BulkPublishItem(_read_sent_key(document), RowStatus.FAILED, error=item)
        try:
            return self._settle_pin(item)
        except ApiError as error:
            return BulkPublishItem(item.content.idempotency_key, RowStatus.FAILED, error=error)

    def _settle_pin(self, pin: NewPin) -> BulkPublishItem:
        key = pin.content.idempotency_key
        pin_of_key = self._pins_of_keys.get(pin.pin_id)
        created = self._not_reached.get(pin.pin_id)
        if created is pin:
            del self._not_reached[pin.pin_id]
        if pin_of_key is None or (created is not None and created is not pin):
            require_destination(self._failing, pin.destination)
        if pin_of_key is None:
            raise AssertionError("A publishable pin was not published.")
        if created is pin:
            return BulkPublishItem(key, RowStatus.CREATED, pin_of_key.row)
        row = resolve_existing(self._principal, key, pin_of_key.row)
        comparison = compare_with_pin(pin.content, row, self._on_mismatch)
        return BulkPublishItem(key, RowStatus.EXISTING, row, comparison)


def _parse_item(principal: Principal, document: object) -> NewPin | ApiError:
    try:
        return NewPin.create(principal, parse_pin(document))
    except ApiError as error:
        return error


def _select_first_publishable(pins: Sequence[NewPin], failing: FailedChecks) -> dict[UUID, NewPin]:
    """Selects the first pin of each key whose board passed its check."""
    first_pins: dict[UUID, NewPin] = {}
    for pin in pins:
        if pin.destination not in failing:
            first_pins.setdefault(pin.pin_id, pin)
    return first_pins


def _read_sent_key(document: Any) -> str:
    """Returns the key of an invalid item, cut and printable, or "" if it has no text as its key.

    The SDK requires a string.
    """
    key = document.get("idempotency_key") if isinstance(document, dict) else None
    return make_printable(key, MAX_KEY_LENGTH) if isinstance(key, str) else ""
