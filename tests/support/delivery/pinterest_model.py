"""Models Pinterest: it makes pins, shows them late and in any order, and loses answers.

It stands for shared.pinterest.client.PinterestClient where a test decides on each answer. The
simulator of deploy/simulator is the real thing for everything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast
from uuid import UUID

from services.publisher.delivery.model import ComparedTexts
from shared.pinterest.client import PinterestClient

HAND = None
"""The origin of a pin that a person made on Pinterest itself."""


@dataclass(slots=True)
class MadePin:
    """A pin on Pinterest."""

    pinterest_pin_id: str
    board_id: str
    texts: ComparedTexts
    created_at: datetime
    visible_at: datetime
    """Lists do not show it before."""
    origin: UUID | None
    """The pin of Pinflow that it was made for, which Pinterest does not tell."""


@dataclass
class PinterestModel:
    """Holds all pins that were ever made, and answers as Pinterest does."""

    now: Callable[[], datetime]
    seed: int = 0
    page_size: int = 250
    pins: list[MadePin] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """The failures of the next calls."""
    after_list: list[Callable[[], Any]] = field(default_factory=list)
    """Events between the last page of the next list and its evaluation."""

    def create(
        self,
        board_id: str,
        texts: ComparedTexts,
        origin: UUID | None,
        *,
        late_seconds: float = 0,
        created_at: datetime | None = None,
    ) -> str:
        """Makes a pin and returns its id."""
        made_at = created_at or self.now()
        pin_id = str(1000 + len(self.pins))
        visible_at = made_at + timedelta(seconds=late_seconds)
        self.pins.append(MadePin(pin_id, board_id, texts, made_at, visible_at, origin))
        return pin_id

    def find(self, pinterest_pin_id: str) -> MadePin:
        return next(pin for pin in self.pins if pin.pinterest_pin_id == pinterest_pin_id)

    def made_for(self, origin: UUID) -> Sequence[MadePin]:
        return [pin for pin in self.pins if pin.origin == origin]

    @property
    def client(self) -> PinterestClient:
        return cast("PinterestClient", self)

    async def call(
        self, operation: str, _method: str, path: str, *, params: Any = None, **_: Any
    ) -> Any:
        """Answers GET /boards/{id}/pins, in an order that the seed decides."""
        assert operation == "boards/list_pins", operation
        if self.failures:
            raise self.failures.pop(0)
        board_id = path.split("/")[2]
        start = int((params or {}).get("bookmark", 0))
        visible = [
            pin for pin in self.pins if pin.board_id == board_id and pin.visible_at <= self.now()
        ]
        Random(self.seed).shuffle(visible)
        end = start + self.page_size
        items = [self._describe(pin) for pin in visible[start:end]]
        is_last = end >= len(visible)
        while is_last and self.after_list:
            await self.after_list.pop()()
        return {"items": items, "bookmark": None if is_last else str(end)}

    def _describe(self, pin: MadePin) -> dict[str, Any]:
        """Describes a pin as lists do: whole seconds without a zone, other white space."""
        time = pin.created_at.replace(microsecond=0, tzinfo=None)
        texts = {name: text and f" {text}" for name, text in pin.texts._asdict().items()}
        return {"id": pin.pinterest_pin_id, "created_at": time.isoformat(), **texts}
