"""Pinflow over HTTP, as the command line uses it: waits out what passes (503, 429), and never
guesses what became of an import.
"""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx
import typer

from deploy.cli.exits import Exit, fail
from deploy.cli.tables import printable
from shared.contract.errors import ErrorCode

LONGEST_PAUSE_SECONDS = 10.0
ASK_AGAIN = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
Job = dict[str, Any]
Attempt = Callable[[], httpx.Response]
KEY_ADVICE = (
    " Set PINFLOW_API_KEY to a key of the workspace. Of the local stack's, after a make clean: set "
    "-a; . .pinflow/env; set +a"
)
AGAIN = (
    "Run the same command again: no row is published twice. To see what was accepted: pinflow "
    "imports list"
)


class PinflowClient:
    """`patience_seconds` is how long it retries after a 503, a 429 or no answer."""

    def __init__(self, base_url: str, api_key: str, patience_seconds: float) -> None:
        if not base_url.startswith(("http://", "https://")):
            fail(f"--base-url must begin with http:// or https://, not {base_url}")
        if not api_key.isascii() or any(
            one <= " " for one in api_key
        ):  # httpx would refuse the header, and show it
            fail(
                "The API key holds a space, a line break or a letter that no key has. It is read "
                "from PINFLOW_API_KEY or --api-key."
            )
        self._patience_seconds = patience_seconds
        self._base_url = base_url
        self._http = httpx.Client(
            base_url=base_url, headers={"X-API-Key": api_key}, timeout=40, trust_env=False
        )

    def submit_json(self, body: bytes, *, strict: bool) -> Job:
        headers = {"Content-Type": "application/json"}
        return self._submit(
            lambda: self._http.post(
                "/v1/pins/imports/json", content=body, headers=headers, params={"strict": strict}
            )
        )

    def submit_csv(self, body: bytes, filename: str, *, strict: bool) -> Job:
        files = {"file": (filename, body, "text/csv")}
        return self._submit(
            lambda: self._http.post("/v1/pins/imports/csv", files=files, params={"strict": strict})
        )

    def job(self, job_id: str) -> Job:
        job: Job = self._document(self._get(f"/v1/pins/imports/{job_id}"))
        return job

    def jobs(self, limit: int, status: str | None) -> list[Job]:
        parameters = {"limit": str(limit)} | ({"status": status} if status else {})
        jobs: list[Job] = self._document(self._get("/v1/pins/imports", parameters))
        return jobs

    def _submit(self, attempt: Attempt) -> Job:
        answer = self._patiently(attempt, retried=(httpx.ConnectError,))
        if code_of(answer) == ErrorCode.ACCEPTANCE_UNKNOWN:
            return self._find_out(answer.json()["detail"]["job_id"])
        job: Job = self._document(answer)
        return job

    def _find_out(self, job_id: str) -> Job:
        """Asks for a job whose acceptance Kafka did not confirm: all of it stands, or nothing."""
        doubt = (
            f"Kafka did not confirm import {job_id} in time: "
            "it was accepted completely or not at all. "
            f"Look later: pinflow imports show {job_id}. {AGAIN}"
        )
        answer = self._get(f"/v1/pins/imports/{job_id}", doubt=doubt)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            fail(f"Kafka fell silent and nothing was accepted. {AGAIN}", Exit.AWAY)
        job: Job = self._document(answer)
        return job

    def _get(
        self, path: str, parameters: dict[str, str] | None = None, *, doubt: str = ""
    ) -> httpx.Response:
        return self._patiently(
            lambda: self._http.get(path, params=parameters),
            retried=(httpx.TransportError,),
            doubt=doubt,
        )

    def _patiently(
        self, attempt: Attempt, *, retried: tuple[type[httpx.TransportError], ...], doubt: str = ""
    ) -> httpx.Response:
        """Returns the first answer that is not `ask again`.

        `retried` are the failures after which asking again can do no harm. `doubt` is said
        when patience ends, in place of the last answer.
        """
        deadline = time.monotonic() + self._patience_seconds
        while True:
            pause, why, busy = 1.0, f"Nothing answers at {self._base_url}.", False
            advice = "Try again later. The local stack is started with: make up"
            try:
                answer = attempt()
            except retried:
                pass
            except httpx.TransportError as error:
                fail(
                    f"The connection was lost ({error!r}), and whether the import was accepted is "
                    f"not known. {AGAIN}",
                    Exit.AWAY,
                )
            else:
                if (
                    answer.status_code not in ASK_AGAIN
                    or code_of(answer) == ErrorCode.ACCEPTANCE_UNKNOWN
                ):
                    return answer
                pause, why = (
                    _retry_after(answer),
                    f"{message_of(answer)} ({code_of(answer) or answer.status_code})",
                )
                advice = "Try again later."
                busy = answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
            if time.monotonic() + pause > deadline:
                fail(doubt or f"{why} {advice}", Exit.AWAY)
            if busy:
                typer.echo(f"{why} Trying again in {pause:g} s.", err=True)
            time.sleep(pause)

    def _document(self, answer: httpx.Response) -> Any:
        if not answer.is_success:
            advice = KEY_ADVICE if answer.status_code == HTTPStatus.UNAUTHORIZED else ""
            away = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            fail(
                f"{message_of(answer)} ({code_of(answer) or answer.status_code}){advice}",
                Exit.AWAY if away else Exit.REFUSED,
            )
        try:
            return answer.json()
        except ValueError:
            status = answer.status_code
            fail(
                f"{self._base_url} does not answer as Pinflow does (HTTP {status}, not JSON). Is "
                "PINFLOW_BASE_URL, or --base-url, right?"
            )


def _retry_after(answer: httpx.Response) -> float:
    seconds = answer.headers.get("retry-after", "")
    return min(float(seconds), LONGEST_PAUSE_SECONDS) if seconds.isdigit() else 1.0


def code_of(answer: httpx.Response) -> str | None:
    return _detail(answer).get("code")


def message_of(answer: httpx.Response) -> str:
    """What the server says, fit for a terminal: it may repeat what stands in a file."""
    return printable(_detail(answer).get("message", f"HTTP {answer.status_code}"))


def _detail(answer: httpx.Response) -> dict[str, str]:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return {}
    return detail if isinstance(detail, dict) else {}
