"""Acts as a user of the simulated Pinterest: creates users with boards, and gives consent."""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from deploy.cli.exit_codes import ExitCode, fail

CONTROL = "/_simulator"
TIMEOUT_SECONDS = 20


class SimulatorClient:
    """Calls the simulator. Ends the command with a message if that is not possible."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            verify=url.startswith("https://"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def list_users(self) -> list[dict[str, Any]]:
        """Returns the users, each with id, username and boards."""
        users: list[dict[str, Any]] = self._read("GET", f"{CONTROL}/accounts")
        return users

    def create_user(self, *, boards: int) -> dict[str, Any]:
        """Creates a user with this number of boards. Returns id, username and the boards' ids."""
        user: dict[str, Any] = self._read("POST", f"{CONTROL}/accounts", {"boards": boards})
        return user

    def allow(self, authorization_url: str, username: str) -> str:
        """Allows what the URL asks for, as the user. Returns the URL to which a browser is sent."""
        # The host of the URL is the one that browsers use. In containers it differs from this one
        fields = dict(parse_qsl(urlsplit(authorization_url).query))
        answer = self._send(
            "POST", "/oauth/", data={**fields, "user": username, "decision": "allow"}
        )
        if answer.status_code != HTTPStatus.SEE_OTHER:
            self._fail(answer)
        return answer.headers["location"]

    def _read(self, method: str, path: str, document: object = None) -> Any:
        answer = self._send(method, path, json=document)
        if not answer.is_success:
            self._fail(answer)
        try:
            return answer.json()
        except ValueError:
            fail(f"The server at {self._url} is not the simulator. {_ADVICE}")

    def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **body)
        except httpx.HTTPError as error:
            fail(
                f"The simulator of Pinterest at {self._url} does not answer ({error}). {_ADVICE}",
                ExitCode.UNAVAILABLE,
            )

    def _fail(self, answer: httpx.Response) -> None:
        fail(
            f"The simulator of Pinterest refuses {answer.request.url.path}: HTTP "
            f"{answer.status_code} {answer.text[:200]}"
        )


_ADVICE = (
    "Correct PINFLOW_PINTEREST_SIMULATOR_URL. Start the local stack with its simulator: make up "
    "PINTEREST=simulated"
)
