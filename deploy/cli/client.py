"""Calls Pinflow over HTTP for the command line.

Waits and retries after 503, 429 or no answer. That is safe for every request: an import has an
idempotency key, and the other requests can be repeated by themselves.
"""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from uuid import uuid4

import httpx
import typer

from deploy.cli.combined_job import Job
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.listing import Listing
from deploy.cli.tables import printable
from deploy.cli.wording import name_options
from shared.contract.errors import ErrorCode

MAX_PAUSE_SECONDS = 10.0
RETRYABLE_STATUSES = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
REFUSALS_OF_ITEMS = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
UNDECIDED_CODES = {
    ErrorCode.ACCEPTANCE_UNKNOWN,
    ErrorCode.REQUEST_IN_PROGRESS,
    ErrorCode.SERVICE_UNAVAILABLE,
}
"""The errors after which an import may have been accepted."""
IMPORTS = "/v1/pins/imports"
JSON_IMPORTS = f"{IMPORTS}/json"
CSV_IMPORTS = f"{IMPORTS}/csv"
MAX_PAGE_ITEMS = 200
"""The largest page of a list."""
Attempt = Callable[[], httpx.Response]
Parameters = Mapping[str, str | None]
KEY_ADVICE = (
    " Set PINFLOW_API_KEY, or give --api-key: an API key of your workspace. In the checkout of a "
    "local stack, commands read its key from .pinflow/env. To load it into this shell: set -a; "
    ". .pinflow/env; set +a"
)
REPEAT_ADVICE = (
    "Run the same command again: no row is published twice. To see which imports were accepted: "
    "pinflow imports list"
)


class BodyTooLarge(Exception):
    """Pinflow refused a body that has more than `limit_bytes`."""

    def __init__(self, limit_bytes: int, message: str) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes
        self.message = message


class CommandAnswer(NamedTuple):
    document: Any
    is_replay: bool
    """True if the request was sent before."""


class ChangeAnswer(NamedTuple):
    """The answer to a change of one item: its document, or the reason of a refusal."""

    document: Any
    error_code: str | None = None
    error_message: str | None = None


class PinflowClient:
    """Submits and reads imports. Ends the command with a message if Pinflow refuses.

    `max_retry_seconds` is how long it retries after a 503, a 429 or no answer.
    """

    def __init__(self, base_url: str, api_key: str, max_retry_seconds: float) -> None:
        if not base_url.startswith(("http://", "https://")):
            fail(
                f"The address {base_url} is invalid. --base-url and PINFLOW_BASE_URL must begin "
                "with http:// or https://."
            )
        # httpx would refuse such a header, and show the key in its error
        if not api_key.isascii() or any(character <= " " for character in api_key):
            fail(
                "The API key is invalid: it has a space, a line break or a character outside "
                "ASCII. Correct PINFLOW_API_KEY or --api-key."
            )
        self._max_retry_seconds = max_retry_seconds
        self._base_url = base_url
        self._http = httpx.Client(
            base_url=base_url,
            headers={"X-API-Key": api_key},
            timeout=40,
            trust_env=False,
            # Loading the certificates takes 0.1 s. An address without TLS needs none
            verify=base_url.startswith("https://"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit_json(self, body: bytes, parameters: Mapping[str, str]) -> Job:
        """Submits an import once, however often it has to be sent. Raises BodyTooLarge."""
        return self._submit(
            JSON_IMPORTS, parameters, {"Content-Type": "application/json"}, content=body
        )

    def submit_csv(self, body: bytes, filename: str, parameters: Mapping[str, str]) -> Job:
        """Submits an import once, however often it has to be sent. Raises BodyTooLarge."""
        return self._submit(CSV_IMPORTS, parameters, {}, files=_form(filename, body))

    def measure_csv_overhead(self, filename: str) -> int:
        """Returns the bytes of a CSV import's body besides its file."""
        request = self._http.build_request("POST", CSV_IMPORTS, files=_form(filename, b""))
        return int(request.headers["content-length"])

    def job(self, job_id: str, *, with_results: bool = True, with_undo: bool = False) -> Job:
        parameters = {} if with_results else {"include_results": "false"}
        if with_undo:
            parameters["include_undo"] = "true"
        job: Job = self._read_document(self._get(f"{IMPORTS}/{job_id}", parameters))
        return job

    def download(self, path: str) -> bytes:
        """Reads a file."""
        return self._require_success(self._get(path)).content

    def read(self, path: str, parameters: Parameters | None = None) -> Any:
        """Reads one document. Parameters that are None are left out."""
        return self._read_document(self._get(path, _leave_out_nulls(parameters or {})))

    def list_items(self, path: str, parameters: Parameters, limit: int) -> Listing:
        """Reads the first `limit` items of a list, page by page."""
        query = _leave_out_nulls(parameters)
        items: list[dict[str, Any]] = []
        total: int | None = None
        cursor: str | None = ""
        while cursor is not None and len(items) < limit:
            page_limit = {"limit": str(min(limit - len(items), MAX_PAGE_ITEMS))}
            response = self._get(path, query | page_limit | ({"cursor": cursor} if cursor else {}))
            items += self._read_document(response)
            total = total if cursor else _read_total(response)
            cursor = _read_next_cursor(response)
        return Listing(items, total, has_more=cursor is not None)

    def post(self, path: str, document: object) -> Any:
        """Sends a request that may be repeated. Returns the answer's document."""
        return self.command(path, document).document

    def command(
        self, path: str, document: object = None, parameters: Parameters | None = None
    ) -> CommandAnswer:
        """Sends a request that may be repeated."""
        response = self._send(
            lambda: self._http.post(path, json=document, params=_leave_out_nulls(parameters or {}))
        )
        is_replay = response.headers.get("idempotent-replayed") == "true"
        return CommandAnswer(self._read_document(response), is_replay=is_replay)

    def delete(self, path: str) -> None:
        """Deletes or revokes a resource. The request may be repeated."""
        self._require_success(self._send(lambda: self._http.delete(path)))

    def patch(self, path: str, document: object) -> Any:
        """Changes a resource. The request may be repeated. Returns the answer's document."""
        return self._read_document(self._send(lambda: self._http.patch(path, json=document)))

    def change(
        self, method: str, path: str, parameters: Parameters, document: object = None
    ) -> ChangeAnswer:
        """Sends a change of one item, which may be repeated. A refusal does not end the command.

        A wrong key or a server's error does.
        """
        response = self._send(
            lambda: self._http.request(
                method, path, params=_leave_out_nulls(parameters), json=document
            )
        )
        if response.status_code in REFUSALS_OF_ITEMS:
            return ChangeAnswer(None, read_error_code(response), read_error_message(response))
        return ChangeAnswer(self._read_document(response))

    def _submit(
        self, path: str, parameters: Mapping[str, str], headers: Mapping[str, str], **body: Any
    ) -> Job:
        keyed = {**headers, "Idempotency-Key": f"pinflow-import-{uuid4()}"}
        response = self._send(
            lambda: self._http.post(path, headers=keyed, params=parameters, **body),
            is_import="dry_run" not in parameters,
        )
        if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            limit = _read_detail(response).get("limit_bytes")
            if isinstance(limit, int):
                raise BodyTooLarge(limit, _describe_error(response))
        job: Job = self._read_document(response)
        return job

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> httpx.Response:
        return self._send(lambda: self._http.get(path, params=parameters))

    def _send(self, attempt: Attempt, *, is_import: bool = False) -> httpx.Response:
        """Returns the first answer after which waiting does not help.

        After `max_retry_seconds` the command fails. If an import may have been accepted by then,
        it says so.
        """
        deadline = time.monotonic() + self._max_retry_seconds
        is_first, may_be_accepted = True, False
        while True:
            pause, reason, is_overloaded = 1.0, f"Nothing answers at {self._base_url}.", False
            advice = "Try again later. Start the local stack with: make up"
            try:
                response = attempt()
            except httpx.ConnectError:
                pass
            except httpx.TransportError as error:
                reason, advice = f"The connection was lost ({error!r}).", "Try again later."
                may_be_accepted = is_import
            else:
                code = read_error_code(response)
                if (
                    response.status_code not in RETRYABLE_STATUSES
                    and code != ErrorCode.REQUEST_IN_PROGRESS
                ):
                    return response
                may_be_accepted |= is_import and code in UNDECIDED_CODES
                pause, reason = _read_retry_after(response), _describe_wait(response, code)
                advice = "Try again later."
                is_overloaded = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
            if time.monotonic() + pause > deadline:
                if may_be_accepted:
                    advice = f"The import may have been accepted. {REPEAT_ADVICE}"
                fail(f"{reason} {advice}", ExitCode.UNAVAILABLE)
            if is_overloaded:
                typer.echo(f"{reason} Trying again in {pause:g} s.", err=True)
            elif is_first:
                limit = f"{self._max_retry_seconds:g} s"
                typer.echo(f"{reason} Trying again for up to {limit}.", err=True)
            is_first = False
            time.sleep(pause)

    def _require_success(self, response: httpx.Response) -> httpx.Response:
        """Returns the answer, or ends the command with its error."""
        if not response.is_success:
            is_unauthorized = response.status_code == HTTPStatus.UNAUTHORIZED
            if is_unauthorized and not self._http.headers["X-API-Key"]:
                fail(f"The command has no API key.{KEY_ADVICE}")
            advice = KEY_ADVICE if is_unauthorized else ""
            is_server_error = response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            fail(
                f"{_describe_error(response)}{advice}",
                ExitCode.UNAVAILABLE if is_server_error else ExitCode.REFUSED,
            )
        return response

    def _read_document(self, response: httpx.Response) -> Any:
        self._require_success(response)
        try:
            return response.json()
        except ValueError:
            fail(
                f"The server at {self._base_url} is not Pinflow: its answer (HTTP "
                f"{response.status_code}) is not JSON. Correct PINFLOW_BASE_URL or --base-url."
            )


def _form(filename: str, body: bytes) -> dict[str, tuple[str, bytes, str]]:
    return {"file": (filename, body, "text/csv")}


def _leave_out_nulls(parameters: Parameters) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _read_total(response: httpx.Response) -> int | None:
    total = response.headers.get("x-total-count", "")
    return int(total) if total.isdigit() else None


def _read_next_cursor(response: httpx.Response) -> str | None:
    """Reads the cursor of the next page. The key is never sent to an address from an answer."""
    url = response.links.get("next", {}).get("url")
    return httpx.URL(url).params.get("cursor") if url else None


def _read_retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("retry-after", "")
    return min(float(seconds), MAX_PAUSE_SECONDS) if seconds.isdigit() else 1.0


def _describe_wait(response: httpx.Response, code: str | None) -> str:
    """Describes an error after which the request is sent again."""
    if code == ErrorCode.ACCEPTANCE_UNKNOWN:  # its message is for clients that choose their keys
        job_id = _read_detail(response).get("job_id")
        return f"Kafka did not confirm import {job_id} in time ({code})."
    return _describe_error(response)


def _describe_error(response: httpx.Response) -> str:
    code = read_error_code(response) or response.status_code
    return f"{read_error_message(response)} ({code})"


def read_error_code(response: httpx.Response) -> str | None:
    return _read_detail(response).get("code")


def read_error_message(response: httpx.Response) -> str:
    """Returns the server's message in the words of the command line.

    Control characters are escaped, because it may quote a file.
    """
    message = _read_detail(response).get("message", f"HTTP {response.status_code}")
    return printable(name_options(message))


def _read_detail(response: httpx.Response) -> dict[str, Any]:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return {}
    return detail if isinstance(detail, dict) else {}
