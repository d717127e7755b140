"""Sends imports with a key and commands on imports until they are answered.

All of them can be repeated. So after a lost answer the same request is sent again.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx

from shared.contract.events import OnExisting
from tests.tools.chaos.api_client import (
    Document,
    parse_counters,
    parse_result,
    read_error_code,
    to_csv,
)
from tests.tools.chaos.history import (
    CancelAnswer,
    CancelStep,
    Channel,
    DryRunStep,
    History,
    RequestOutcome,
    SteeredRow,
    Submission,
    UndoAnswer,
    UndoStep,
)

ANSWER_SECONDS = 240.0
"""The time after which a command that is sent again and again counts as never answered."""
AGAIN_SECONDS = 0.3
AGAIN = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}


class NeverAnswered(Exception):
    """A command was answered in a way that no client should see, or not at all."""


class SteeringClient:
    """Sends one workspace's requests to the gateway, and some of them to a replica of ingest."""

    def __init__(
        self, http: httpx.AsyncClient, replica_url: str, history: History, rng: random.Random
    ) -> None:
        self._http = http
        self._replica_url = replica_url
        self._history = history
        self._rng = rng

    async def import_rows(
        self, submission: Submission, documents: list[Document], key: str, *, copies: int
    ) -> None:
        """Sends an import with an Idempotency-Key until it is accepted, `copies` times at once."""
        self._history.submissions.append(submission)
        path, body = _describe_import(submission.channel, submission.marker, documents)
        headers = {"Idempotency-Key": key}
        parameters = {"on_existing": submission.on_existing.value}

        async def send() -> None:
            answer = await self._repeat(
                "POST",
                path,
                {HTTPStatus.ACCEPTED},
                submission=submission,
                may_use_replica=True,
                headers=headers,
                params=parameters,
                **body,
            )
            submission.named_jobs.add(answer.json()["id"])

        await self._accept(submission, [send() for _ in range(copies)])

    async def retry(self, submission: Submission, body: Document, *, copies: int) -> None:
        """Retries the failed rows of the submission's parent until the child is accepted."""
        self._history.submissions.append(submission)

        async def send() -> None:
            answer = await self._repeat(
                "POST",
                f"/v1/pins/imports/{submission.parent_id}/retry",
                {HTTPStatus.ACCEPTED},
                submission=submission,
                json=body,
            )
            submission.named_jobs.add(answer.json()["id"])

        await self._accept(submission, [send() for _ in range(copies)])

    async def reuse_key(self, documents: list[Document], key: str) -> None:
        """Sends other content under a used key. It must be refused with 422."""
        answer = await self._repeat(
            "POST",
            "/v1/pins/imports/json",
            {HTTPStatus.UNPROCESSABLE_ENTITY},
            may_use_replica=True,
            headers={"Idempotency-Key": key},
            json=documents,
        )
        if (code := read_error_code(answer)) != "idempotency_key_reused":
            self._history.unexpected_answers.append(f"another body under a used key got {code}")

    async def check(
        self, rows: list[SteeredRow], on_existing: OnExisting, documents: list[Document]
    ) -> DryRunStep:
        """Sends a dry run until it is answered."""
        answer = await self._repeat(
            "POST",
            "/v1/pins/imports/json",
            {HTTPStatus.OK},
            may_use_replica=True,
            params={"on_existing": on_existing.value, "dry_run": "true"},
            json=documents,
        )
        document = answer.json()
        results = [parse_result(result) for result in document["results"]]
        checked_at = datetime.fromisoformat(document["checked_at"])
        return DryRunStep(rows, on_existing, checked_at, results)

    async def cancel(self, step: CancelStep) -> None:
        parameters = {"scheduled": "true"} if step.with_schedules else {}
        path = f"/v1/pins/imports/{step.job_id}/cancel"
        answer = await self._repeat("POST", path, {HTTPStatus.OK}, params=parameters)
        document = answer.json()
        step.answers.append(
            CancelAnswer(
                parse_counters(document),
                document["canceled_rows"],
                frozenset(item["row_number"] for item in document["canceled_schedules"]),
                tuple((item["row_number"], item["reason"]) for item in document["left"]),
            )
        )

    async def undo(self, step: UndoStep, *, copies: int) -> None:
        """Sends an undo until it is answered, `copies` times at once."""

        async def send() -> None:
            path = f"/v1/pins/imports/{step.job_id}/undo"
            answer = (await self._repeat("POST", path, {HTTPStatus.OK})).json()
            step.answers.append(
                UndoAnswer(
                    answer["undo_id"],
                    datetime.fromisoformat(answer["undone_at"]),
                    tuple((item["row_number"], item["action"]) for item in answer["undone"]),
                    tuple((item["row_number"], item["reason"]) for item in answer["left"]),
                )
            )

        await _gather([send() for _ in range(copies)])
        step.answered_at = datetime.now(UTC)

    async def plan_undo(self, job_id: str) -> None:
        """Sends a dry run of an undo."""
        path = f"/v1/pins/imports/{job_id}/undo"
        await self._repeat("POST", path, {HTTPStatus.OK}, params={"dry_run": "true"})

    async def change(
        self, method: str, path: str, expected: Collection[int], **body: Any
    ) -> httpx.Response:
        """Sends a direct call until it is answered."""
        return await self._repeat(method, path, expected, **body)

    async def _accept(self, submission: Submission, requests: Sequence[Any]) -> None:
        try:
            await _gather(requests)
        finally:
            if submission.named_jobs and not submission.job_id:
                submission.job_id = min(submission.named_jobs)
        submission.outcome = RequestOutcome.ACCEPTED

    async def _repeat(
        self,
        method: str,
        path: str,
        expected: Collection[int],
        *,
        submission: Submission | None = None,
        may_use_replica: bool = False,
        **request: Any,
    ) -> httpx.Response:
        """Sends a request until it gets an answer of an expected status. Raises NeverAnswered."""
        clock = asyncio.get_running_loop().time
        deadline, last = clock() + ANSWER_SECONDS, "no answer"
        while clock() < deadline:
            # A replica of ingest has the same keys
            to_replica = may_use_replica and self._rng.random() < 0.5
            try:
                answer = await self._http.request(
                    method, f"{self._replica_url}{path}" if to_replica else path, **request
                )
            except httpx.TransportError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status_code in expected:
                return answer
            code = read_error_code(answer)
            last = f"{answer.status_code} {answer.text[:300]}"
            if submission is not None and code == "acceptance_unknown":
                submission.named_jobs.add(answer.json()["detail"]["job_id"])
            is_busy = code == "request_in_progress"
            if answer.status_code not in AGAIN and not is_busy:
                break
            if "retry-after" not in answer.headers:
                self._history.unexpected_answers.append(f"{path}: {last} without Retry-After")
            await asyncio.sleep(AGAIN_SECONDS)
        self._history.unexpected_answers.append(f"{method} {path} got {last}")
        raise NeverAnswered


async def _gather(requests: Sequence[Any]) -> None:
    """Awaits all requests, also if one of them fails. Raises the first failure."""
    for result in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _describe_import(
    channel: Channel, name: str, documents: list[Document]
) -> tuple[str, dict[str, Any]]:
    if channel is Channel.JSON:
        return "/v1/pins/imports/json", {"json": documents}
    return "/v1/pins/imports/csv", {"files": {"file": (f"{name}.csv", to_csv(documents))}}
