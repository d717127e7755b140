"""Sends one client's requests and records each in the history with its outcome."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx

from deploy.administration import NewWorkspace
from shared.contract.schedule_ids import derive_pin_id
from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    History,
    RequestOutcome,
    Result,
    SinglePin,
    Submission,
)

Document = dict[str, Any]

REQUEST_SECONDS = 20
COLUMNS = (
    "account_id",
    "board_id",
    "title",
    "description",
    "link_url",
    "image_url",
    "idempotency_key",
    "run_at",
)
REFUSAL_CODES = frozenset({"broker_unavailable", "database_unavailable", "too_busy"})
"""Error codes of 503 that promise that the import was not accepted. Every 429 promises it too."""


class ApiClient:
    """Calls the API of the gateway for one workspace."""

    def __init__(self, http: httpx.AsyncClient, history: History) -> None:
        self.http = http
        self._history = history

    async def import_rows(self, submission: Submission, documents: list[Document]) -> None:
        """Sends an import as JSON or CSV and records the outcome in the submission."""
        self._history.submissions.append(submission)
        if submission.channel is Channel.JSON:
            answer = await self._post("/v1/pins/imports/json", json=documents)
        else:
            file = (f"{submission.marker}.csv", to_csv(documents), "text/csv")
            answer = await self._post("/v1/pins/imports/csv", files={"file": file})
        submission.outcome = self._classify(answer, HTTPStatus.ACCEPTED, REFUSAL_CODES)
        submission.answer = (
            f"{answer.status_code} {read_error_code(answer)}".strip()
            if answer is not None
            else "no answer"
        )
        if answer is not None and submission.outcome is not RequestOutcome.REFUSED:
            body = answer.json()
            submission.job_id = (
                body["id"]
                if submission.outcome is RequestOutcome.ACCEPTED
                else body["detail"].get("job_id")
            )

    async def publish(self, pin: SinglePin, document: Document) -> None:
        """Sends POST /v1/pins and records the outcome in `pin`."""
        clock = asyncio.get_running_loop().time
        pin.sent_at = clock()
        self._history.pins.append(pin)
        answer = await self._post("/v1/pins", json=document)
        pin.answered_at = clock()
        # No 503 promises that nothing was stored: a database that stopped answering may have
        # committed
        pin.outcome = self._classify(answer, HTTPStatus.CREATED, frozenset())
        if answer is not None and pin.outcome is RequestOutcome.ACCEPTED:
            pin.pin_id, pin.was_created = (
                answer.json()["id"],
                "idempotent-replayed" not in answer.headers,
            )

    async def poll(self, job_id: str, *, seconds: float, every: float) -> bool:
        """Polls an accepted job until it ends, for at most `seconds`. Returns whether it ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline:
            if await self.poll_once(job_id):
                return True
            await asyncio.sleep(every)
        return False

    async def poll_once(self, job_id: str) -> bool:
        """Polls an accepted job once. Returns whether it has ended."""
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        try:
            answer = await self.http.get(f"/v1/pins/imports/{job_id}")
        except httpx.TransportError:
            return False
        if answer.status_code == HTTPStatus.OK:
            job = answer.json()
            if self._history.record_poll(job_id, parse_counters(job), sent_at, clock()):
                self._history.record_results(job_id, map(parse_result, job["results"]))
            return job["completed_at"] is not None
        error = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code == HTTPStatus.NOT_FOUND:
            self._history.absences.append(Absence(job_id, error, sent_at, clock()))
        elif answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            self._history.unexpected_answers.append(
                f"job {job_id} was accepted, but a later poll got {error}"
            )
        return False

    async def _post(self, path: str, **body: Any) -> httpx.Response | None:
        try:
            return await self.http.post(path, **body)
        except httpx.TransportError:
            return None

    def _classify(
        self, answer: httpx.Response | None, success: HTTPStatus, refusal_codes: frozenset[str]
    ) -> RequestOutcome:
        if answer is None:
            return RequestOutcome.UNKNOWN
        if answer.status_code == success:
            return RequestOutcome.ACCEPTED
        code = read_error_code(answer)
        if answer.status_code in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            if "retry-after" not in answer.headers:
                self._history.unexpected_answers.append(
                    f"{answer.status_code} {code} without Retry-After"
                )
            is_refused = code in refusal_codes or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
            return RequestOutcome.REFUSED if is_refused else RequestOutcome.UNKNOWN
        self._history.unexpected_answers.append(
            f"{answer.request.url.path} answered {answer.status_code} {answer.text[:300]}"
        )
        return RequestOutcome.REFUSED


def parse_counters(job: Mapping[str, Any]) -> Counters:
    names = (
        "status",
        "total_rows",
        "processed_rows",
        "created_rows",
        "existing_rows",
        "failed_rows",
    )
    return Counters(*(job[name] for name in names))


def parse_result(result: Mapping[str, Any]) -> Result:
    pin = result["pin_id"]
    if pin is None and result["schedule_id"] is not None:
        pin = str(derive_pin_id(UUID(result["schedule_id"])))
    return Result(
        result["row_number"],
        result["status"],
        pin,
        result["idempotency_key"],
        result["error_code"],
        is_schedule=result["schedule_id"] is not None,
        existing_state=result["existing_state"],
        updated=bool(result["updated"]),
    )


def read_error_code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def to_csv(documents: list[Document]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(documents)
    return text.getvalue().encode()


@asynccontextmanager
async def open_client(
    base_url: str, workspace: NewWorkspace, history: History
) -> AsyncIterator[ApiClient]:
    headers, limits = {"X-API-Key": workspace.api_key}, httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=REQUEST_SECONDS, limits=limits, trust_env=False
    ) as client:
        yield ApiClient(client, history)
