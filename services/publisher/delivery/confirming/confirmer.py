"""Confirms pins whose answer was lost: looks whether Pinterest lists them on their board."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, assert_never

import structlog

from services.publisher.delivery.confirming.looks import (
    Adopt,
    GiveUp,
    LookAgain,
    LookDecision,
    SendAgain,
    decide_look,
    decide_unread,
)
from services.publisher.delivery.confirming.matching import (
    ListedBoard,
    ListedPin,
    match,
    read_listed_pin,
    select_possible,
)
from services.publisher.delivery.model import (
    AccessToken,
    AccountLease,
    AttemptOutcome,
    DeliveryAttempt,
    Postponed,
)
from services.publisher.delivery.ports import CallBudget, DeliveryLog, TokenSource
from services.publisher.model import Failure
from shared.contract.errors import ApiError, Unavailable
from shared.pinterest.client import PAGE_SIZE, PinterestClient
from shared.pinterest.failures import AnswerLost, Cause, PinterestFailure, Refused
from shared.pinterest.model import Category

log = structlog.get_logger()

OPERATION = "boards/list_pins"
MAX_PAGE_WAIT_SECONDS = 60.0
"""The longest wait for a read in the middle of a list: the smallest budget allows one a minute."""
MAX_ADOPTIONS = 3
"""Maximum decisions on one look, each after another attempt adopted the same id."""


@dataclass(frozen=True, slots=True)
class StartedLook:
    """A look at a board for an attempt whose answer was lost."""

    attempt: DeliveryAttempt
    tries: int
    """The looks before this one, also those that could not read the board."""
    looked_at: datetime
    """When this look began, by the database's clock."""
    is_of_other_mode: bool = False
    """True if this process can't see the board, because the pin was sent in another mode."""


class AdoptedElsewhere(Exception):
    """Another attempt adopted the same id meanwhile. Nothing was written: decide again."""


class UnsettledAttempt(Protocol):
    """Settles an attempt that has no outcome, and that is locked until the transaction ends."""

    absent_at: datetime | None
    """When the first look that found nothing ended."""

    async def read_known_ids(self, ids: Collection[str]) -> Collection[str]:
        """Reads which of these ids at Pinterest belong to pins of Pinflow."""
        ...

    async def read_others(self) -> Sequence[DeliveryAttempt]:
        """Reads the other attempts on the board which may have made a pin with an unknown id."""
        ...

    async def adopt(self, pinterest_pin_id: str) -> None:
        """Publishes the pin with this id. Raises AdoptedElsewhere."""
        ...

    async def look_again(self, seconds: float) -> None:
        """Records the end of the first look that found nothing."""
        ...

    async def postpone(self, seconds: float) -> None:
        """Records that the board could not be read."""
        ...

    async def send_again(self) -> None:
        """Queues the pin again."""
        ...

    async def give_up(self, failure: Failure) -> None:
        """Lets the pin fail."""
        ...


class ConfirmingStore(Protocol):
    """Stores attempts whose answer was lost."""

    async def start_look(self, lease: AccountLease) -> StartedLook | None:
        """Finds the account's attempt whose look is due first. Its pin becomes `confirming`.

        No look is due before the attempt's deadline: until then its answer may come.
        """
        ...

    def lock_attempt(
        self, attempt: DeliveryAttempt
    ) -> AbstractAsyncContextManager[UnsettledAttempt | None]:
        """Locks the attempt. None: it has an outcome by now."""
        ...


class Unread(NamedTuple):
    """The board could not be read."""

    reason: str
    retry_after_seconds: float = 0
    is_refused: bool = False
    """True: Pinterest refuses to list this board."""


class Confirmer:
    """Takes one look at a board in each turn. The part of a turn with the highest priority."""

    def __init__(
        self,
        store: ConfirmingStore,
        client: PinterestClient,
        tokens: TokenSource,
        budget: CallBudget,
        delivery_log: DeliveryLog,
        *,
        confirm_seconds: float,
        max_pages: int,
    ) -> None:
        self._store = store
        self._client = client
        self._tokens = tokens
        self._budget = budget
        self._delivery_log = delivery_log
        self._confirm_seconds = confirm_seconds
        self._max_pages = max_pages

    async def run(self, lease: AccountLease) -> bool:
        """Looks for one attempt. Returns False if no look is due. Raises Postponed."""
        look = await self._store.start_look(lease)
        if look is None:
            return False
        board: ListedBoard | Unread = (
            Unread(f"the pin was sent in the mode {look.attempt.mode}")
            if look.is_of_other_mode
            else await self._read_board(look.attempt)
        )
        if isinstance(board, Unread):
            decision = await self._record_unread(look, board)
        else:
            decision = await self._settle(look, board)
        await self._announce(look.attempt, decision)
        return True

    async def _read_board(self, attempt: DeliveryAttempt) -> ListedBoard | Unread:
        """Lists the board. A refused token is refreshed once."""
        try:
            token = await self._tokens.get(attempt.account_id)
            try:
                return await self._list_pins(attempt, token)
            except Refused as refusal:
                if refusal.cause is not Cause.TOKEN:
                    raise
            token = await self._tokens.refresh(attempt.account_id, token.version)
            return await self._list_pins(attempt, token)
        except Refused as refusal:
            return _judge_refusal(refusal)
        except PinterestFailure as failure:
            return Unread(failure.message)
        except (ApiError, Unavailable) as error:  # no token: the account waits for its user
            return Unread(str(error))

    async def _list_pins(self, attempt: DeliveryAttempt, token: AccessToken) -> ListedBoard:
        """Reads pages until the list ends. Keeps only the pins that can be the attempt's."""
        pins: list[ListedPin] = []
        page = {"page_size": str(PAGE_SIZE)}
        bookmarks: set[str] = set()
        for number in range(self._max_pages):
            await self._take_read(attempt, is_first=number == 0)
            answer = await self._client.call(
                OPERATION,
                "GET",
                f"/boards/{attempt.board_id}/pins",
                token=token.value,
                params=page,
            )
            listed = [read_listed_pin(item) for item in answer["items"]]
            pins += select_possible(attempt, listed)
            bookmark = answer.get("bookmark")
            if not bookmark:
                return ListedBoard(pins, is_complete=True)
            if bookmark in bookmarks:
                raise AnswerLost(OPERATION, "Pinterest's list has no end.")
            bookmarks.add(bookmark)
            page["bookmark"] = bookmark
        return ListedBoard(pins, is_complete=False)

    async def _take_read(self, attempt: DeliveryAttempt, *, is_first: bool) -> None:
        """Takes one read from the budget. In the middle of a list, waits for it.

        If it were postponed instead, the list would begin anew, and a list of more pages than the
        bucket has tokens would never end.
        """
        while True:
            try:
                return await self._budget.require(attempt.account_id, Category.READ)
            except Postponed as postponed:
                if is_first or postponed.seconds > MAX_PAGE_WAIT_SECONDS:
                    raise
                await asyncio.sleep(postponed.seconds)

    async def _settle(self, look: StartedLook, board: ListedBoard) -> LookDecision | None:
        """Decides and records. Returns None if the attempt got an outcome meanwhile."""
        for _ in range(MAX_ADOPTIONS):
            try:
                return await self._decide(look, board)
            except AdoptedElsewhere:
                continue  # the next decision knows the id, and does not take it for the attempt's
        raise AssertionError("Ids were adopted elsewhere, but are not known.")

    async def _decide(self, look: StartedLook, board: ListedBoard) -> LookDecision | None:
        attempt = look.attempt
        async with self._store.lock_attempt(attempt) as unsettled:
            if unsettled is None:
                return None
            # Read after the list: a pin that Pinflow made meanwhile must be known
            known_ids = await unsettled.read_known_ids(
                {pin.pinterest_pin_id for pin in board.pins if pin.pinterest_pin_id is not None}
            )
            found = match(attempt, board, known_ids, await unsettled.read_others())
            decision = decide_look(
                found,
                absent_at=unsettled.absent_at,
                looked_at=look.looked_at,
                confirm_seconds=self._confirm_seconds,
            )
            await _record(unsettled, decision)
        log.info(
            "delivery_looked",
            attempt_id=str(attempt.attempt_id),
            pin_id=str(attempt.pin_id),
            workspace_id=str(attempt.workspace_id),
            listed=len(board.pins),
            match=type(found).__name__,
            decision=type(decision).__name__,
        )
        return decision

    async def _record_unread(self, look: StartedLook, unread: Unread) -> LookDecision | None:
        follows = decide_unread(
            tries=look.tries,
            looked_at=look.looked_at,
            deadline_at=look.attempt.deadline_at,
            is_refused=unread.is_refused,
        )
        log.warning(
            "delivery_board_unread",
            attempt_id=str(look.attempt.attempt_id),
            workspace_id=str(look.attempt.workspace_id),
            reason=unread.reason,
        )
        async with self._store.lock_attempt(look.attempt) as unsettled:
            if unsettled is None:
                return None
            if isinstance(follows, GiveUp):
                await unsettled.give_up(follows.failure)
                return follows
            await unsettled.postpone(max(follows, unread.retry_after_seconds))
        return None

    async def _announce(self, attempt: DeliveryAttempt, decision: LookDecision | None) -> None:
        """Tells the topic `deliveries` the attempt's outcome, if it has one now."""
        match decision:
            case None | LookAgain():
                return
            case Adopt(pinterest_pin_id):
                await self._delivery_log.settle(attempt, AttemptOutcome.FOUND, pinterest_pin_id)
            case SendAgain():
                await self._delivery_log.settle(attempt, AttemptOutcome.ABSENT, None)
            case GiveUp():
                await self._delivery_log.settle(attempt, AttemptOutcome.UNCONFIRMED, None)
            case _:
                assert_never(decision)


async def _record(unsettled: UnsettledAttempt, decision: LookDecision) -> None:
    match decision:
        case Adopt(pinterest_pin_id):
            await unsettled.adopt(pinterest_pin_id)
        case LookAgain(after_seconds):
            await unsettled.look_again(after_seconds)
        case SendAgain():
            await unsettled.send_again()
        case GiveUp(failure):
            await unsettled.give_up(failure)
        case _:
            assert_never(decision)


def _judge_refusal(refusal: Refused) -> ListedBoard | Unread:
    """Decides what it means that Pinterest refuses to list the board.

    A missing board counts as one without pins, so after a second look the pin is sent again. The
    board may have been merged into another one, which has its pins. But that makes no double,
    because Pinterest refuses every pin for a missing board.
    """
    if refusal.cause is Cause.NOT_FOUND:
        return ListedBoard([], is_complete=True)
    return Unread(
        refusal.message,
        refusal.retry_after_seconds or 0,
        is_refused=refusal.cause in {Cause.PERMISSION, Cause.CONTENT},
    )
