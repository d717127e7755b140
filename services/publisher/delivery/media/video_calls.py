"""Calls Pinterest for videos in an account's turn: registers them, and asks whether they are ready.

The upload between the two needs no token and no budget, and may take an hour. So it happens beside
the turns (uploading.py).
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol
from uuid import UUID

import structlog

from services.publisher.delivery.attempts.call_failures import CallFailures
from services.publisher.delivery.media.repository import VideoRepository
from services.publisher.delivery.media.video import (
    Video,
    VideoChange,
    VideoStep,
    postpone_call,
    record_failure,
    record_registration,
    record_status,
    register_anew,
)
from services.publisher.delivery.media_failures import MediaRejected
from services.publisher.delivery.model import AccessToken, AccountLease, Postponed
from services.publisher.delivery.ports import CallBudget, ReportingTokenSource
from shared.contract.errors import ApiError, Unavailable
from shared.pinterest.client import PinterestClient
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused
from shared.pinterest.model import Category

log = structlog.get_logger()

REGISTER, READ = "media/create", "media/get"
MARGIN_SECONDS = 30.0
"""The time that a taken video outlasts the timeout of its call. After a crash it is due again."""


PASSING_CAUSES = frozenset(
    {Cause.TOKEN, Cause.SCOPE, Cause.APP, Cause.RATE_LIMIT, Cause.SPAM_BLOCK}
)
"""Refusals that concern the account or the app. They pause it, and its videos wait."""


class TokenFailures(Protocol):
    """Pauses what can't go on without a token. AccountFailures implements it."""

    async def pause_without_token(self, account_id: UUID, failure: ApiError | Unavailable) -> None:
        """Pauses the account or the app. Raises `failure` if it is of another kind."""
        ...


class VideoCalls:
    """Does one call for one video in each turn. Implements TurnPart."""

    def __init__(
        self,
        videos: VideoRepository,
        client: PinterestClient,
        tokens: ReportingTokenSource,
        budget: CallBudget,
        failures: CallFailures,
        token_failures: TokenFailures,
        *,
        timeout_seconds: float,
        wake_uploads: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes `wake_uploads`, which is called when a video is to be uploaded."""
        self._videos = videos
        self._client = client
        self._tokens = tokens
        self._budget = budget
        self._failures = failures
        self._token_failures = token_failures
        self._taken_seconds = timeout_seconds + MARGIN_SECONDS
        self._wake_uploads = wake_uploads

    async def run(self, lease: AccountLease) -> bool:
        """Makes one call. Returns False if none is due. Raises Postponed."""
        video = await self._videos.take_call(lease.account_id, self._taken_seconds)
        if video is None:
            return False
        try:
            change = await self._call(video)
        except Postponed as postponed:
            await self._videos.change(video, VideoChange({}, postponed.seconds))
            raise
        except Refused as refusal:
            change = judge_refusal(video, refusal)
            await self._failures.pause(lease.account_id, refusal)
        except NotSent as failure:
            change = postpone_call()
            await self._failures.pause(lease.account_id, failure)
        except AnswerLost:  # nothing is known, and both calls may be repeated
            change = postpone_call()
        is_changed = await self._videos.change(video, change)
        log.info(
            "video_called",
            pin_id=str(video.pin_id),
            workspace_id=str(lease.workspace_id),
            step=video.step,
            next_step=change.values.get("step", video.step),
            is_changed=is_changed,
        )
        if change.values.get("step") == VideoStep.UPLOAD:
            self._wake_uploads()
        return True

    async def _call(self, video: Video) -> VideoChange:
        """Calls with the account's token. A refused one is refreshed once."""
        try:
            token = await self._tokens.get(video.account_id)
        except (ApiError, Unavailable) as failure:
            await self._token_failures.pause_without_token(video.account_id, failure)
            return postpone_call()
        try:
            return await self._send(video, token)
        except Refused as refusal:
            if refusal.cause is Cause.SCOPE:
                await self._report_scope(video, token)
            if refusal.cause is not Cause.TOKEN:
                raise
        try:
            token = await self._tokens.refresh(video.account_id, token.version)
        except (ApiError, Unavailable) as failure:
            await self._token_failures.pause_without_token(video.account_id, failure)
            return postpone_call()
        return await self._send(video, token)

    async def _report_scope(self, video: Video, token: AccessToken) -> None:
        """Lets the access service show that the account lacks a right."""
        try:
            await self._tokens.report_scope_missing(video.account_id, token.version)
        except (ApiError, Unavailable) as error:
            log.warning("scope_missing_not_reported", error=str(error))

    async def _send(self, video: Video, token: AccessToken) -> VideoChange:
        is_new = video.step == VideoStep.REGISTER
        await self._budget.require(video.account_id, Category.WRITE if is_new else Category.READ)
        answer: dict[str, Any]
        if is_new:
            answer = await self._client.call(
                REGISTER, "POST", "/media", token=token.value, document={"media_type": "video"}
            )
            return record_registration(video, answer)
        answer = await self._client.call(READ, "GET", f"/media/{video.media_id}", token=token.value)
        return record_status(video, answer.get("status"))


def judge_refusal(video: Video, refusal: Refused) -> VideoChange:
    """Decides what a refused call means for the video."""
    if refusal.cause in PASSING_CAUSES:
        return postpone_call(refusal.retry_after_seconds)
    if video.step == VideoStep.PROCESS and refusal.status == HTTPStatus.NOT_FOUND:
        return register_anew(video, "it does not know it any more")
    return record_failure(MediaRejected(f"Pinterest does not take the video: {refusal.message}"))
