"""Defines the interfaces between the parts of the delivery process."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from services.publisher.delivery.model import (
    AccessToken,
    AccountLease,
    AttemptOutcome,
    DeliveryAttempt,
)
from services.publisher.model import Failure
from shared.pinterest.failures import Refused
from shared.pinterest.model import Category
from shared.postgres.row import Row


class TurnPart(Protocol):
    """One kind of work for an account: confirming, removing, uploading a medium, creating a pin."""

    async def run(self, lease: AccountLease) -> bool:
        """Does at most one piece of work. Returns False if there is none that is due.

        Raises Postponed if there is work that may not begin yet. Any other exception ends the turn.
        """
        ...


class DeliveryLog(Protocol):
    """The topic `deliveries`: what may have been sent, for the time after a restore (ADR 0046)."""

    async def require_open(self, connected_at: float) -> None:
        """Raises Unavailable while the database may lack attempts that Kafka has.

        `connected_at` is the monotonic time when the used connection was opened.
        """
        ...

    async def announce(self, attempt: DeliveryAttempt) -> None:
        """Returns after Kafka has the attempt. Raises BrokerUnavailable: then send nothing."""
        ...

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        """Tells Kafka the outcome. Never raises: a lost record only costs a confirmation."""
        ...


class TokenSource(Protocol):
    """Provides access tokens of accounts, from the access service. Raises as its client does."""

    async def get(self, account_id: UUID) -> AccessToken: ...

    async def refresh(self, account_id: UUID, refused_version: int) -> AccessToken:
        """Returns a token of a later version. Raises ApiError (409) if the account is given up."""
        ...


class ReportingTokenSource(TokenSource, Protocol):
    """Provides access tokens, and tells the access service which of them lacks a right."""

    async def report_scope_missing(self, account_id: UUID, version: int) -> bool:
        """Notes that the account's user did not allow everything. Raises as `get`."""
        ...


class CallBudget(Protocol):
    """The limits of requests to Pinterest, for parts that have no transaction open."""

    async def require(self, account_id: UUID, category: Category) -> None:
        """Takes one request. Raises Postponed if it has to wait."""
        ...


class BoardExplainer(Protocol):
    """Finds out why Pinterest refuses a pin without saying so."""

    async def explain(self, token: AccessToken, board_id: str, refusal: Refused) -> Failure:
        """Looks the board up once. Returns the failure of the refused pin."""
        ...


class MediaSource(Protocol):
    """Provides the `media_source` of a pin's request (ADR 0048)."""

    def is_ready(self, pin: Row) -> bool:
        """Returns whether `open` needs no time and can't fail for this pin."""
        ...

    def open(self, pin: Row) -> AbstractAsyncContextManager[dict[str, object]]:
        """Enters with the `media_source`. Leave the block when the request has ended.

        An uploaded image is in memory until then, and few may be there at the same time. Entering
        raises MediaUnreachable, MediaRejected, or MediaPending if a video is not ready
        (media_failures.py). It may take as long as one request: enter before the attempt begins,
        unless the medium `is_ready`.
        """
        ...
