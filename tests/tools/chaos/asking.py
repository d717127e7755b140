"""One client's requests: each is written into the history with what its answer promises."""

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
from shared.contract.schedule_ids import pin_id_of_schedule
from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    History,
    Result,
    SinglePin,
    Submission,
    Told,
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
NOTHING_STANDS = frozenset({"broker_unavailable", "database_unavailable", "too_busy"})
"""Codes of 503 after which nothing of an import may ever be seen; nothing may after any 429."""


class Asker:
    """Speaks to the gateway for one workspace."""

    def __init__(self, http: httpx.AsyncClient, history: History) -> None:
        self._http = http
        self._history = history

    async def import_rows(self, submission: Submission, documents: list[Document]) -> None:
        """One POST, as JSON or CSV. The submission knows afterwards what it was told."""
        self._history.submissions.append(submission)
        if submission.channel is Channel.JSON:
            answer = await self._post("/v1/pins/imports/json", json=documents)
        else:
            file = (f"{submission.marker}.csv", as_csv(documents), "text/csv")
            answer = await self._post("/v1/pins/imports/csv", files={"file": file})
        submission.told = self._told(answer, HTTPStatus.ACCEPTED, NOTHING_STANDS)
        submission.answer = (
            f"{answer.status_code} {code_of(answer)}".strip() if answer is not None else "no answer"
        )
        if answer is not None and submission.told is not Told.NOTHING:
            body = answer.json()
            submission.job_id = (
                body["id"] if submission.told is Told.DONE else body["detail"].get("job_id")
            )

    async def publish(self, pin: SinglePin, document: Document) -> None:
        clock = asyncio.get_running_loop().time
        pin.asked = clock()
        self._history.pins.append(pin)
        answer = await self._post("/v1/pins", json=document)
        pin.answered = clock()
        pin.told = self._told(
            answer, HTTPStatus.CREATED, frozenset()
        )  # a database that fell silent may have committed
        if answer is not None and pin.told is Told.DONE:
            pin.pin_id, pin.made = answer.json()["id"], "idempotent-replayed" not in answer.headers

    async def poll(self, job_id: str, *, seconds: float, every: float) -> bool:
        """Look at an accepted job until it has ended, or for so long. Returns whether it has."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline:
            if await self.look(job_id):
                return True
            await asyncio.sleep(every)
        return False

    async def look(self, job_id: str) -> bool:
        """Polls an accepted job once. Returns whether it has ended."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        try:
            answer = await self._http.get(f"/v1/pins/imports/{job_id}")
        except httpx.TransportError:
            return False
        if answer.status_code == HTTPStatus.OK:
            job = answer.json()
            if self._history.saw(job_id, counters_of(job), asked, clock()):
                self._history.saw_results(job_id, map(result_of, job["results"]))
            return job["completed_at"] is not None
        told = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code == HTTPStatus.NOT_FOUND:
            self._history.absences.append(Absence(job_id, told, asked, clock()))
        elif answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            self._history.surprises.append(f"job {job_id} was accepted, then answered {told}")
        return False

    async def _post(self, path: str, **body: Any) -> httpx.Response | None:
        try:
            return await self._http.post(path, **body)
        except httpx.TransportError:
            return None

    def _told(
        self, answer: httpx.Response | None, good: HTTPStatus, nothing: frozenset[str]
    ) -> Told:
        if answer is None:
            return Told.UNKNOWN
        if answer.status_code == good:
            return Told.DONE
        code = code_of(answer)
        if answer.status_code in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            if "retry-after" not in answer.headers:
                self._history.surprises.append(f"{answer.status_code} {code} without Retry-After")
            is_nothing = code in nothing or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
            return Told.NOTHING if is_nothing else Told.UNKNOWN
        self._history.surprises.append(
            f"{answer.request.url.path} answered {answer.status_code} {answer.text[:300]}"
        )
        return Told.NOTHING


def counters_of(job: Mapping[str, Any]) -> Counters:
    names = (
        "status",
        "total_rows",
        "processed_rows",
        "created_rows",
        "existing_rows",
        "failed_rows",
    )
    return Counters(*(job[name] for name in names))


def result_of(result: Mapping[str, Any]) -> Result:
    pin = result["pin_id"]
    if pin is None and result["schedule_id"] is not None:
        pin = str(pin_id_of_schedule(UUID(result["schedule_id"])))
    return Result(
        result["row_number"], result["status"], pin, result["idempotency_key"], result["error_code"]
    )


def code_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def as_csv(documents: list[Document]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(documents)
    return text.getvalue().encode()


@asynccontextmanager
async def asker(base_url: str, workspace: NewWorkspace, history: History) -> AsyncIterator[Asker]:
    headers, limits = {"X-API-Key": workspace.api_key}, httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=REQUEST_SECONDS, limits=limits, trust_env=False
    ) as client:
        yield Asker(client, history)
