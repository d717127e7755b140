"""Decides how long accounts, the app or pins pause, and what the app's pause permits. No I/O.

The pauses of a cause grow with its consecutive failures. A success ends the pause and the growth.
"""

from datetime import datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple

from services.publisher.delivery.model import Pause
from shared.contract.errors import ErrorCode

HOUR = 3600.0
SPAM_STEPS = (HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR)
"""Pinterest's blocks last minutes, and nearly always end within 24 hours."""
UNAVAILABLE_STEPS = (5.0, 10.0, 20.0, 40.0, 60.0)
LOST_STEPS = (0.0, 0.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Two consecutive lost answers of an account are ordinary, so they are only counted: a pause of 0 s
is over when it begins. From the third on the account pauses, because each leaves a pin in doubt."""
RECONNECT_STEPS = (60.0, 300.0, 900.0)
"""After Pinterest refused a token or a right. The access service still hands out a token."""
TRY_SECONDS = 600.0
"""The time in which a try follows the end of an account's pause, in addition to its rest. If it
fails, its pause continues the last one: the account has been paused since that began. A created pin
ends that."""
FETCH_STEPS = (120.0, 600.0, HOUR)
"""Seconds after each failed fetch of a pin's image, which is often reachable some minutes later."""


class PauseCause(Enum):
    """The causes of pauses: the code and message that users see, and the steps."""

    code: ErrorCode
    message: str
    steps: tuple[float, ...]
    """The seconds of the first pause, of the second, and so on. The last step repeats. A cause with
    one step does not count its failures."""

    SPAM_BLOCK = (
        ErrorCode.RATE_LIMITED,
        (
            "Pinterest has blocked the account for a while, because its activity looks like spam. "
            "Pinflow continues by itself. Publish fewer pins a day."
        ),
        SPAM_STEPS,
    )
    RATE_LIMIT = (
        ErrorCode.RATE_LIMITED,
        "Pinterest limits the account's requests for a while. Pinflow continues by itself.",
        (60.0,),
    )
    TOKEN = (
        ErrorCode.ACCOUNT_REVOKED,
        "Pinterest refuses the account's access token. Connect the account again.",
        RECONNECT_STEPS,
    )
    SCOPE = (
        ErrorCode.SCOPE_MISSING,
        "The account's access lacks a right that publishing needs. Connect the account again.",
        RECONNECT_STEPS,
    )
    GIVEN_UP = (
        ErrorCode.ACCOUNT_REVOKED,
        "The account has no access to Pinterest any more. Connect the account again.",
        (60.0,),
    )
    TOKEN_WAIT = (
        ErrorCode.PINTEREST_UNAVAILABLE,
        "The account's access token can't be refreshed at the moment. Pinflow continues by itself.",
        (30.0,),
    )
    DAILY_PINS = (
        ErrorCode.QUOTA_EXCEEDED,
        (
            "The account has reached its limit of pins a day (PINFLOW_DELIVERY_DAILY_PINS). "
            "Pinflow continues by itself when its day ends."
        ),
        (24 * HOUR,),
    )
    DAILY_WRITES = (
        ErrorCode.QUOTA_EXCEEDED,
        (
            "The app has reached its limit of changes a day (PINFLOW_DELIVERY_APP_WRITES_PER_DAY). "
            "Pinflow continues by itself when its day ends."
        ),
        (24 * HOUR,),
    )
    UNAVAILABLE = (
        ErrorCode.PINTEREST_UNAVAILABLE,
        "Pinterest can't be reached. Pinflow continues by itself.",
        UNAVAILABLE_STEPS,
    )
    ANSWERS_LOST = (
        ErrorCode.PINTEREST_UNAVAILABLE,
        (
            "Pinterest's answers to several pins of the account were lost, one after the other. "
            "Pinflow looks whether these pins were made, and continues by itself."
        ),
        LOST_STEPS,
    )
    NO_TOKENS = (
        ErrorCode.PINTEREST_UNAVAILABLE,
        (
            "The access service does not answer, so there are no access tokens. Pinflow continues "
            "by itself."
        ),
        UNAVAILABLE_STEPS,
    )
    APP = (
        ErrorCode.APP_NOT_APPROVED,
        (
            "Pinterest does not let the app create pins. An app needs Standard access: ask for "
            "it at developers.pinterest.com."
        ),
        (600.0,),
    )

    def __init__(self, code: ErrorCode, message: str, steps: tuple[float, ...]) -> None:
        self.code = code
        self.message = message
        self.steps = steps


class PauseState(NamedTuple):
    """The pause columns of an account or of the app. They stay until a success clears them."""

    until: datetime | None
    code: str | None
    step: int


NOT_PAUSED = PauseState(None, None, 0)
NEW_PIN_CODES = (ErrorCode.QUOTA_EXCEEDED, ErrorCode.APP_NOT_APPROVED)
"""The codes of pauses that concern new pins only: removals and videos go on."""
CHANGE_CODES = (*NEW_PIN_CODES, ErrorCode.RATE_LIMITED)
"""The codes of pauses that concern changes at Pinterest only: attempts are still confirmed, because
that only reads. Removals are changes, and wait while Pinterest blocks the account."""
CONFIRMING_CODES = (*CHANGE_CODES, ErrorCode.PINTEREST_UNAVAILABLE)
"""The codes of an account's pauses during which attempts are still confirmed. After a row of lost
answers that is what ends the doubt, often long before the pause ends: Pinterest may refuse to make
pins, and still list them. If it is away completely, looks back off by themselves (looks.py)."""
LOST_IN_BLOCK_SECONDS = 60.0
LOST_IN_BLOCK_MESSAGE = (
    "Pinterest blocked the account before, and has not made a pin of it since: its answer to the "
    "last one was lost. Pinflow looks whether that pin was made, and continues by itself."
)


class AppState(Enum):
    """The state of the app: new pins may be sent or not."""

    OPEN = auto()
    PROBING = auto()
    """The app's pause is over: one pin shows whether Pinterest works again."""
    PAUSED_FOR_PINS = auto()
    PAUSED = auto()


def grow(
    state: PauseState,
    cause: PauseCause,
    now: datetime,
    *,
    seconds: float | None = None,
) -> Pause | None:
    """Returns the pause that follows a failure, or None if the running pause covers it.

    `seconds` is the length of the pause, if Pinterest or a quota says it. Otherwise the cause's
    steps decide.
    """
    is_block = state.code == ErrorCode.RATE_LIMITED and state.step > 0
    if is_block and cause is PauseCause.ANSWERS_LOST:
        return _wait_in_block(state, now)
    step = state.step if state.code == cause.code else 0
    if len(cause.steps) > 1:
        is_running = state.until is not None and state.until > now
        if is_running and state.code == cause.code and step > 0:
            return None  # the request was in flight when the pause began
        step += 1
    length = cause.steps[min(max(step, 1), len(cause.steps)) - 1] if seconds is None else seconds
    until = now + timedelta(seconds=length)
    # A limit or block of Pinterest's also holds removals and videos. So it replaces even a longer
    # pause that holds new pins only, which begins again if its cause lasts
    holds_more = cause.code is ErrorCode.RATE_LIMITED and state.code in NEW_PIN_CODES
    if state.until is not None and state.until > until and not holds_more:
        return None
    return Pause(until, cause.code, cause.message, step)


def _wait_in_block(state: PauseState, now: datetime) -> Pause | None:
    """Returns the pause that follows a lost answer, while no pin has shown that a block is over.

    It keeps the block's code and step, so the next block is longer than the last one.
    """
    until = now + timedelta(seconds=LOST_IN_BLOCK_SECONDS)
    if state.until is not None and state.until > until:
        return None
    return Pause(until, ErrorCode.RATE_LIMITED, LOST_IN_BLOCK_MESSAGE, state.step)


def judge_app(now: datetime | None, pause: PauseState) -> AppState:
    """Returns what the app's pause permits. `now` is None if the app never paused."""
    if now is None or pause.code is None or pause.until is None:
        return AppState.OPEN
    if pause.until <= now:
        return AppState.PROBING
    return AppState.PAUSED_FOR_PINS if pause.code in NEW_PIN_CODES else AppState.PAUSED


def compute_fetch_delay(tries: int) -> float:
    """Returns the seconds to wait before a pin whose image could not be fetched is tried again.

    `tries` is the number of failed tries, at least 1.
    """
    return FETCH_STEPS[min(tries, len(FETCH_STEPS)) - 1]
