"""A model of Pinterest's tokens, with failures that a test chooses for each request."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from itertools import count
from typing import Any

from pydantic import SecretStr

from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused
from shared.pinterest.model import TokenGrant

DAY = 86_400
ACCESS_SECONDS, REFRESH_SECONDS = 30 * DAY, 60 * DAY
SCOPES = ("boards:read",)


class Outcome(StrEnum):
    """The fate of a request for tokens."""

    ANSWERED = auto()
    NOT_SENT = auto()
    LOST_BEFORE = auto()
    """Pinterest did nothing, and the answer is lost."""
    LOST_AFTER = auto()
    """Pinterest issued tokens, and the answer is lost."""
    LIMITED = auto()
    """429."""
    FILTERED = auto()
    """Something in between answers 403."""
    LATE_BEFORE = auto()
    """The request arrives later: after other refreshes."""
    LATE_AFTER = auto()
    """The answer arrives later."""
    CRASHED_BEFORE = auto()
    """The process dies before Pinterest does anything."""
    CRASHED_AFTER = auto()
    """The process dies before it has stored the answer."""

    @property
    def is_late(self) -> bool:
        return self in {Outcome.LATE_BEFORE, Outcome.LATE_AFTER}

    @property
    def is_crash(self) -> bool:
        return self in {Outcome.CRASHED_BEFORE, Outcome.CRASHED_AFTER}


@dataclass(slots=True)
class RefreshToken:
    expires_at: float
    previous: str | None
    """The refresh token that it was exchanged for."""
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class AccessToken:
    expires_at: float
    previous: str | None
    """The refresh token that it was exchanged for. It ends when this token is first used."""


@dataclass
class Pinterest:
    """The tokens of one user. Every token that was issued stays known."""

    single_use: bool = False
    """A refresh token ends with its first use, not with the first use of the new access token."""
    ends_access: bool = False
    """A refresh ends the earlier access tokens."""
    replaces: bool = False
    """A refresh ends the tokens of an earlier refresh with the same refresh token."""
    now: float = 0
    is_secret_right: bool = True
    is_revoked: bool = False
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """The refresh tokens of requests that were refused."""
    has_lost_answer: bool = False
    """Tokens of the present connection were issued, but their answer never arrived."""
    _numbers: "count[int]" = field(default_factory=count)

    def issue(self, previous: str | None = None) -> TokenGrant:
        number = next(self._numbers)
        access, refresh = f"pina_{number}", f"pinr_{number}"
        if self.ends_access:
            self.access_tokens.clear()
        self.access_tokens[access] = AccessToken(self.now + ACCESS_SECONDS, previous)
        self.refresh_tokens[refresh] = RefreshToken(self.now + REFRESH_SECONDS, previous)
        return TokenGrant(
            SecretStr(access), ACCESS_SECONDS, SCOPES, SecretStr(refresh), REFRESH_SECONDS
        )

    def reconnect(self) -> TokenGrant:
        """The user allows the access again."""
        self.is_revoked = self.has_lost_answer = False
        return self.issue()

    def revoke(self) -> None:
        """The user ends the access: no token works any more."""
        self.is_revoked = True
        self.access_tokens.clear()
        for token in self.refresh_tokens.values():
            token.is_ended = True

    def accepts_refresh(self, refresh_token: str) -> bool:
        token = self.refresh_tokens[refresh_token]
        return not token.is_ended and self.now < token.expires_at

    def accepts_access(self, access_token: str) -> bool:
        token = self.access_tokens.get(access_token)
        return token is not None and self.now < token.expires_at

    def refresh(self, refresh_token: str) -> TokenGrant:
        if not self.is_secret_right or not self.accepts_refresh(refresh_token):
            self.refused.add(refresh_token)
            raise _refuse("oauth/token", 401, 2)
        if self.single_use:
            self.refresh_tokens[refresh_token].is_ended = True
        if self.replaces:
            self._end_successors(refresh_token)
        return self.issue(refresh_token)

    def _end_successors(self, refresh_token: str) -> None:
        for token in self.refresh_tokens.values():
            token.is_ended = token.is_ended or token.previous == refresh_token
        self.access_tokens = {
            secret: token
            for secret, token in self.access_tokens.items()
            if token.previous != refresh_token
        }

    def use(self, access_token: str) -> None:
        if not self.accepts_access(access_token):
            raise _refuse("boards/list", 401, 2)
        if previous := self.access_tokens[access_token].previous:
            self.refresh_tokens[previous].is_ended = True


class Endpoint:
    """Pinterest as one process sees it. Each process has its own failures."""

    def __init__(self, pinterest: Pinterest) -> None:
        self._pinterest = pinterest
        self.outcome = Outcome.ANSWERED
        """The outcome of the next requests for tokens."""
        self.reached = asyncio.Event()
        """A request is late, or its process is about to die."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Lets a late request or answer arrive."""
        self._released.set()

    async def request_tokens(self, form: Mapping[str, str]) -> TokenGrant:
        outcome, refresh_token = self.outcome, form["refresh_token"]
        match outcome:
            case Outcome.NOT_SENT:
                raise NotSent("oauth/token", "not sent")
            case Outcome.LOST_BEFORE:
                raise AnswerLost("oauth/token", "lost")
            case Outcome.LIMITED:
                raise _refuse("oauth/token", 429, 8, Cause.RATE_LIMIT)
            case Outcome.FILTERED:
                raise _refuse("oauth/token", 403, None, Cause.PERMISSION)
            case Outcome.LATE_BEFORE | Outcome.CRASHED_BEFORE:
                await self._wait()
        grant = self._pinterest.refresh(refresh_token)
        if outcome in {Outcome.LOST_AFTER, Outcome.CRASHED_AFTER}:
            self._pinterest.has_lost_answer = True
        if outcome is Outcome.LATE_BEFORE and self._pinterest.replaces:
            # It ended the tokens of the refresh that came between, which are stored. No client can
            # know that, so the answer is dropped
            self._pinterest.has_lost_answer = True
        if outcome in {Outcome.LATE_AFTER, Outcome.CRASHED_AFTER}:
            await self._wait()
        if outcome is Outcome.LOST_AFTER:
            raise AnswerLost("oauth/token", "lost")
        return grant

    async def call(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def list_all(self, *_: Any, token: SecretStr, **__: Any) -> list[dict[str, Any]]:
        self._pinterest.use(token.get_secret_value())
        return []

    async def close(self) -> None: ...

    async def _wait(self) -> None:
        self.reached.set()
        await self._released.wait()


def _refuse(operation: str, status: int, code: int | None, cause: Cause = Cause.TOKEN) -> Refused:
    return Refused(operation, "refused", status=status, code=code, cause=cause)
