"""Calls routes under /internal of the access service, for operators."""

import os
from typing import Any

import httpx

from deploy.cli.client import read_error_code, read_error_message
from deploy.cli.exit_codes import ExitCode, fail

TIMEOUT_SECONDS = 90
"""Longer than Pinflow waits for Pinterest."""
URL, TOKEN = "PINFLOW_ACCESS_URL", "PINFLOW_INTERNAL_TOKEN"


def call_internal(path: str, document: dict[str, Any]) -> dict[str, Any]:
    """Sends a document to /internal/`path`. Returns the answer, or ends the command."""
    missing = [name for name in (URL, TOKEN) if not os.environ.get(name)]
    if missing:
        fail(
            f"Set {' and '.join(missing)} to the values that the services have. Commands for "
            "operators call the access service directly, because the gateway has no such route."
        )
    # The first replica: any of them can do it, and the command can be repeated
    url = os.environ[URL].split(",")[0].rstrip("/")
    try:
        answer = httpx.post(
            f"{url}/internal/{path}",
            json=document,
            headers={"Authorization": f"Bearer {os.environ[TOKEN]}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        fail(
            f"The access service at {url} does not answer ({error}). Check {URL}. Start the local "
            "stack with: make up",
            ExitCode.UNAVAILABLE,
        )
    if not answer.is_success:
        code = read_error_code(answer) or answer.status_code
        fail(
            f"{read_error_message(answer)} ({code})",
            ExitCode.UNAVAILABLE if answer.is_server_error else ExitCode.REFUSED,
        )
    result: dict[str, Any] = answer.json()
    return result
