"""Creates a pin as the delivery process does, finds it by the confirming rules, and deletes it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from services.publisher.delivery.attempts.compared import build_texts
from services.publisher.delivery.attempts.link_mark import has_mark
from services.publisher.delivery.confirming.matching import (
    Found,
    ListedBoard,
    match,
    read_listed_pin,
)
from services.publisher.delivery.creating.pin_document import build_pin_document
from services.publisher.delivery.model import DeliveryAttempt
from shared.pinterest.failures import AnswerLost, PinterestFailure, Refused
from tests.tools.sandbox.recording import Report, Session

POLL_SECONDS = 2.0
TEXTS = ("title", "description", "alt_text")
TITLE = "Pinflow: proof of its client"


@dataclass(frozen=True)
class ProofOptions:
    image_url: str
    link_url: str
    board_id: str | None = None
    """None: a board is created, and deleted at the end."""
    is_secret: bool = True
    """True: the created board is secret. That needs the scopes `…_secret`."""
    list_seconds: float = 120
    """The time that Pinterest has to list a new pin."""


@dataclass
class Proof:
    """Runs the steps, and remembers which of its checks failed."""

    session: Session
    options: ProofOptions
    report: Report
    failed_checks: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    """Things that could not be deleted."""

    async def run(self) -> bool:
        """Returns whether all checks passed and nothing was left behind.

        Raises PinterestFailure if a step is not possible.
        """
        self.report("1. Whose token is it?")
        user = await self.session.call("user_account/get", "GET", "/user_account")
        self.report(f"  user {user.get('username')}, {user.get('account_type')}")
        boards = await self.session.list_all("boards/list", "/boards")
        self.report(f"  {len(boards)} boards")
        async with self._board() as board_id:
            await self._prove_pin(board_id)
        return not self.failed_checks and not self.left_behind

    @asynccontextmanager
    async def _board(self) -> AsyncIterator[str]:
        if self.options.board_id is not None:
            self.report(f"2. Uses board {self.options.board_id}")
            yield self.options.board_id
            return
        privacy = "SECRET" if self.options.is_secret else "PUBLIC"
        self.report(f"2. Creates a board ({privacy})")
        name = f"Pinflow proof {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        board = await self.session.call(
            "boards/create", "POST", "/boards", {"name": name, "privacy": privacy}
        )
        self.report(f"  board {board['id']}: {name}")
        try:
            yield str(board["id"])
        finally:
            self.report("7. Deletes the board")
            await self._delete("boards/delete", f"/boards/{board['id']}")

    async def _prove_pin(self, board_id: str) -> None:
        attempt_id = uuid4()
        row = self._build_row(board_id)
        texts = build_texts(row, marked_by=attempt_id)
        source = {"source_type": "image_url", "url": self.options.image_url}
        document = build_pin_document(row, source, texts.link)
        started_at = datetime.now(UTC)
        attempt = DeliveryAttempt(
            attempt_id=attempt_id,
            pin_id=uuid4(),
            number=1,
            workspace_id=uuid4(),
            account_id=uuid4(),
            mode="sandbox",
            fence=1,
            board_id=board_id,
            texts=texts,
            started_at=started_at,
            deadline_at=started_at + timedelta(minutes=2),
        )
        self.report("3. Creates a pin")
        pin_id: str | None = None
        try:
            try:
                pin = await self.session.call("pins/create", "POST", "/pins", document)
                pin_id = str(pin["id"])
                self.report(f"  pin {pin_id}")
            except AnswerLost as failure:
                self._check("pins/create answered", is_good=False, detail=str(failure))
            if pin_id is not None:
                await self._compare_pin(pin_id, document, attempt_id)
            await self._find_by_rules(attempt, pin_id)
        finally:
            self.report("6. Deletes the pin")
            await self._remove_pins(board_id, attempt_id, pin_id)

    async def _compare_pin(
        self, pin_id: str, document: Mapping[str, Any], attempt_id: UUID
    ) -> None:
        self.report("4. Reads the pin")
        pin = await self.session.call("pins/get", "GET", f"/pins/{pin_id}")
        for name in TEXTS:
            is_kept = pin.get(name) == document[name]
            self._check(f"{name} is kept", is_good=is_kept, detail=repr(pin.get(name)))
        link = pin.get("link")
        is_marked = isinstance(link, str) and has_mark(link, attempt_id)
        self._check("the link's fragment is kept", is_good=is_marked, detail=repr(link))
        self.report(f"  created_at {pin.get('created_at')!r}, now {datetime.now(UTC):%H:%M:%S} UTC")

    async def _find_by_rules(self, attempt: DeliveryAttempt, pin_id: str | None) -> None:
        """Looks for the pin as if its answer was lost, with and without the mark."""
        self.report("5. Finds the pin in the board's list, by the rules for a lost answer")
        # Another attempt's id: the link then has no mark of it, so all texts are compared
        unmarked = replace_id(attempt)
        started = time.monotonic()
        while True:
            items = await self.session.list_all("boards/list_pins", _pins_path(attempt.board_id))
            board = ListedBoard([read_listed_pin(item) for item in items], is_complete=True)
            by_mark, by_texts = match(attempt, board, (), ()), match(unmarked, board, (), ())
            seconds = time.monotonic() - started
            if isinstance(by_mark, Found) or seconds > self.options.list_seconds:
                break
            await asyncio.sleep(POLL_SECONDS)
        for name, found in (("by its mark", by_mark), ("by its texts", by_texts)):
            is_same = isinstance(found, Found) and pin_id in {None, found.pinterest_pin_id}
            self._check(f"found {name}", is_good=is_same, detail=repr(found))
        self.report(f"  listed after {seconds:.0f} s")

    async def _remove_pins(self, board_id: str, attempt_id: UUID, pin_id: str | None) -> None:
        """Deletes the pin, and any pin with the attempt's mark. A second deletion gets 404."""
        ids = [] if pin_id is None else [pin_id]
        try:
            items = await self.session.list_all("boards/list_pins", _pins_path(board_id))
            marked = [item for item in items if has_mark(item.get("link"), attempt_id)]
            ids += [str(item["id"]) for item in marked if item.get("id") not in ids]
        except PinterestFailure as failure:
            self.report(f"  the board can't be listed: {failure}")
            self.left_behind += [] if ids else [f"perhaps a pin on board {board_id}"]
        for each in ids:
            path = f"/pins/{each}"
            if not await self._delete("pins/delete", path):
                continue
            try:
                await self.session.call("pins/delete", "DELETE", path)
                self._check("a second deletion gets 404", is_good=False, detail="success")
            except Refused as refusal:
                is_gone = refusal.status == HTTPStatus.NOT_FOUND
                self._check("a second deletion gets 404", is_good=is_gone, detail=str(refusal))

    async def _delete(self, operation: str, path: str) -> bool:
        try:
            await self.session.call(operation, "DELETE", path)
        except PinterestFailure as failure:
            self.report(f"  NOT deleted: {failure}")
            self.left_behind.append(path)
            return False
        return True

    def _check(self, name: str, *, is_good: bool, detail: str) -> None:
        self.report(f"  {'ok    ' if is_good else 'FAILED'} {name}: {detail}")
        if not is_good:
            self.failed_checks.append(name)

    def _build_row(self, board_id: str) -> dict[str, Any]:
        """Builds a row of publisher.pins, as far as a delivery reads it."""
        return {
            "board_id": board_id,
            "title": TITLE,
            "description": "Created by make pinterest-sandbox, which deletes it again. <b> & ü",
            "alt_text": "A picture that proves a client",
            "dominant_color": "#C2410C",
            "link_url": self.options.link_url,
        }


def replace_id(attempt: DeliveryAttempt) -> DeliveryAttempt:
    """Returns an attempt with the same texts and another id."""
    values = {name: getattr(attempt, name) for name in DeliveryAttempt.__dataclass_fields__}
    return DeliveryAttempt(**{**values, "attempt_id": uuid4()})


def _pins_path(board_id: str) -> str:
    return f"/boards/{board_id}/pins"
