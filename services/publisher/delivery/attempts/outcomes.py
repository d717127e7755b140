"""Decides what a failed attempt means for the pin, the account and the app. No I/O.

A failure concerns the pin, the account or the app. Only a pin that surely was not created is queued
again. If it may have been created, it is confirmed.
"""

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from services.publisher.delivery.accounts import pauses
from services.publisher.delivery.accounts.pauses import compute_fetch_delay
from services.publisher.delivery.media_failures import (
    MediaFailure,
    MediaPending,
    MediaRejected,
    MediaUnreachable,
)
from services.publisher.model import Failure
from shared.contract.errors import ErrorCode
from shared.pinterest.failures import AnswerLost, Cause, NotSent, PinterestFailure, Refused

IMAGE_CODES = (233, 235)
"""Pinterest's codes of an image that is too small or broken."""


@dataclass(frozen=True, slots=True)
class FailPin:
    """Pinterest will never take the pin."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class DeferPin:
    """The pin itself waits, and is tried again. Other pins of the account go on."""

    seconds: float
    code: ErrorCode | None
    """None: it only waits for its video, which is no deferral."""
    message: str


@dataclass(frozen=True, slots=True)
class PauseAccount:
    """The pin is queued again, and the account pauses."""

    cause: pauses.PauseCause
    seconds: float | None = None
    """The length of the pause if Pinterest names it."""


@dataclass(frozen=True, slots=True)
class PauseApp:
    """The pin is queued again, and all accounts pause."""

    cause: pauses.PauseCause


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The pin is queued again, and tried once more with a new access token."""


@dataclass(frozen=True, slots=True)
class LookUpBoard:
    """The board tells why the pin is refused, and the pin fails."""

    message: str


@dataclass(frozen=True, slots=True)
class ConfirmPin:
    """Pinterest may have made the pin: it is looked for, and never sent again."""

    reason: str


SettledMeaning: TypeAlias = FailPin | DeferPin | PauseAccount | PauseApp | RefreshToken
"""The meanings with which an attempt is settled: it surely created no pin."""
Meaning: TypeAlias = SettledMeaning | LookUpBoard | ConfirmPin


@dataclass(frozen=True, slots=True)
class PinHistory:
    """Counts earlier refusals of the pin."""

    fetch_tries: int = 0
    """Tries that failed because the image could not be fetched, since the user's last change."""
    is_refreshed: bool = False
    """The last attempt was refused because of the token, which was refreshed since."""


def describe_unconfirmed(cause: str) -> Failure:
    """Builds the failure of a pin that may be on Pinterest. A person has to look there."""
    return Failure(
        ErrorCode.PUBLISH_UNCONFIRMED,
        f"{cause}. Look for the pin on its board. If it is not there, retry it with "
        "?may_double=true.",
    )


def describe_lost_answer(reason: str) -> Failure:
    """Builds the failure of a pin whose answer was lost. `reason`: why no look can decide."""
    return describe_unconfirmed(f"Pinterest's answer was lost, and {reason}")


def decide_failure(failure: PinterestFailure, history: PinHistory, max_fetch_tries: int) -> Meaning:
    """Decides what a failed POST /pins means."""
    match failure:
        case AnswerLost():
            return ConfirmPin(failure.message)
        case NotSent():
            return PauseApp(pauses.PauseCause.UNAVAILABLE)
        case Refused():
            return _decide_refusal(failure, history, max_fetch_tries)
        case _:
            raise AssertionError(f"A failure without a meaning: {failure!r}")


def decide_media_failure(
    failure: MediaFailure, history: PinHistory, max_fetch_tries: int
) -> FailPin | DeferPin:
    """Decides what it means that the image or video of a pin is not at hand."""
    match failure:
        case MediaPending():
            return DeferPin(failure.retry_after_seconds, None, failure.message)
        case MediaUnreachable():
            return _decide_fetch(failure.message, history, max_fetch_tries)
        case MediaRejected():
            return FailPin(Failure(failure.code, failure.message))
        case _:
            raise AssertionError(f"A failure without a meaning: {failure!r}")


def _decide_refusal(  # noqa: C901, PLR0911 - one case for each cause
    refused: Refused, history: PinHistory, max_fetch_tries: int
) -> Meaning:
    match refused.cause:
        case Cause.CONTENT:
            is_image = refused.code in IMAGE_CODES
            code = ErrorCode.MEDIA_REJECTED if is_image else ErrorCode.VALIDATION_ERROR
            return FailPin(Failure(code, _quote(refused)))
        case Cause.NOT_FOUND:
            return FailPin(Failure(ErrorCode.BOARD_NOT_FOUND, _quote(refused)))
        case Cause.PERMISSION:
            return LookUpBoard(_quote(refused))
        case Cause.FETCH:
            return _decide_fetch(_quote(refused), history, max_fetch_tries)
        case Cause.RATE_LIMIT:
            return PauseAccount(pauses.PauseCause.RATE_LIMIT, refused.retry_after_seconds)
        case Cause.SPAM_BLOCK:
            return PauseAccount(pauses.PauseCause.SPAM_BLOCK)
        case Cause.TOKEN:
            if history.is_refreshed:
                return PauseAccount(pauses.PauseCause.TOKEN)
            return RefreshToken()
        case Cause.SCOPE:
            return PauseAccount(pauses.PauseCause.SCOPE)
        case Cause.APP:
            return PauseApp(pauses.PauseCause.APP)
        case _:
            assert_never(refused.cause)


def _decide_fetch(message: str, history: PinHistory, max_tries: int) -> FailPin | DeferPin:
    tries = history.fetch_tries + 1
    if tries >= max_tries:
        return FailPin(
            Failure(ErrorCode.MEDIA_UNREACHABLE, f"Given up after {tries} tries: {message}")
        )
    return DeferPin(compute_fetch_delay(tries), ErrorCode.MEDIA_UNREACHABLE, message)


def _quote(refused: Refused) -> str:
    return f"Pinterest refused the pin: {refused.message}"
