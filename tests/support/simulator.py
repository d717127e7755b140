"""Starts the simulator of Pinterest, and acts as a user's browser and as a test's operator."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet

from deploy.local.layout import CHECKOUT
from deploy.local.ports import choose
from deploy.local.programs import Program
from tests.support import ports
from tests.support.deployment import is_ready
from tests.support.pinterest_description import check_requests_of_pinflow
from tests.support.processes import RunningProgram

APP_ID, APP_SECRET = "1000001", "simulated-secret"
REDIRECT_URI = "http://127.0.0.1:1/callback"
"""The URL of an app of the test's own, at which nothing listens."""
SCOPES = "boards:read,boards:write,pins:read,pins:write,user_accounts:read"


class ConsentForm(HTMLParser):
    """Reads where the page's form goes, and its hidden fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = values["action"]
        if tag == "input" and values["type"] == "hidden":
            self.hidden[values["name"]] = values["value"]


def read_form(page: str) -> ConsentForm:
    form = ConsentForm()
    form.feed(page)
    form.close()
    return form


class Simulator:
    """A simulator that runs as a process of its own."""

    def __init__(self, url: str, process: RunningProgram) -> None:
        self.url = url
        self.process = process
        self.token_key = Fernet.generate_key().decode()
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30)

    @property
    def api_url(self) -> str:
        return f"{self.url}/v5"

    def settings(self) -> dict[str, str]:
        """Returns the variables that connect a service to this simulator."""
        return {
            "PINFLOW_PINTEREST_MODE": "simulated",
            "PINFLOW_PINTEREST_SIMULATOR_URL": self.url,
            "PINFLOW_PINTEREST_APP_ID": APP_ID,
            "PINFLOW_PINTEREST_APP_SECRET": APP_SECRET,
            "PINFLOW_PINTEREST_TOKEN_KEYS": self.token_key,
        }

    def consent(self, authorization_url: str, user: str = "rosa", *, allow: bool = True) -> str:
        """Allows or denies the access as a browser does. Returns the URL it is sent back to.

        `user` is a user's name or id. Raises httpx.HTTPStatusError if the page refuses.
        """
        page = self.http.get(authorization_url)
        page.raise_for_status()
        form = read_form(page.text)
        decision = {"user": user, "decision": "allow" if allow else "deny"}
        answer = self.http.post(form.action, data={**form.hidden, **decision})
        if not answer.is_redirect:
            answer.raise_for_status()
        return answer.headers["location"]

    def request_token(self, **form: str) -> httpx.Response:
        return self.http.post("/v5/oauth/token", data=form, auth=(APP_ID, APP_SECRET))

    def authorization_url(self, **changes: str) -> str:
        """Returns the URL to which an app of the test's own sends its user."""
        parameters = {
            "client_id": APP_ID,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": SCOPES,
            "state": "state",
        }
        return f"{self.url}/oauth/?{httpx.QueryParams({**parameters, **changes})}"

    def get_code(self, user: str = "rosa", scopes: str = SCOPES) -> str:
        target = self.consent(self.authorization_url(scope=scopes), user)
        return httpx.URL(target).params["code"]

    def exchange_code(self, code: str, redirect_uri: str = REDIRECT_URI) -> httpx.Response:
        return self.request_token(
            grant_type="authorization_code", code=code, redirect_uri=redirect_uri
        )

    def get_token(self, user: str = "rosa", scopes: str = SCOPES) -> dict[str, Any]:
        """Connects a user as an app does, and returns the answer of POST /oauth/token."""
        answer = self.exchange_code(self.get_code(user, scopes))
        answer.raise_for_status()
        return dict(answer.json())

    def call(self, method: str, path: str, token: str, **options: Any) -> httpx.Response:
        """Calls an operation of the API with an access token."""
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.request(method, f"/v5{path}", headers=headers, **options)

    def control(
        self, method: str, path: str, document: Mapping[str, Any] | None = None, **query: Any
    ) -> Any:
        """Calls /_simulator/PATH and returns the answer's JSON."""
        answer = self.http.request(
            method, f"/_simulator/{path}", params=query or None, json=document
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def set_faults(self, kind: str, share: float = 1, **options: Any) -> None:
        self.control("POST", "faults", {"kind": kind, "share": share, **options})

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        """Changes settings of deploy/simulator/options.py and returns all."""
        return dict(self.control("POST", "settings", changes))

    def list_accounts(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "accounts"))

    def create_account(self, *, boards: int = 0, username: str | None = None) -> dict[str, Any]:
        named = {} if username is None else {"username": username}
        return dict(self.control("POST", "accounts", {"boards": boards, **named}))

    def break_tokens(self, user: str, action: str) -> None:
        """`action`: expire_access, revoke or expire_refresh."""
        self.control("POST", "tokens", {"user": user, "action": action})

    def check_requests(self) -> None:
        """Raises AssertionError if Pinflow sent what Pinterest's description does not allow."""
        check_requests_of_pinflow(self.control("GET", "requests"))

    def forget_everything(self) -> None:
        """Resets the simulator to its first start. Changes and tokens of users are gone, too."""
        self.control("POST", "reset", {"everything": True})

    def restart(self) -> None:
        """Kills the process and starts it again. It keeps its state only with `data`."""
        self.process.kill()
        self.process.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        self.process.wait_until(lambda: is_ready(self.url))


@contextmanager
def running_simulator(
    *options: str, data: Path | None = None, logs: Path | None = None
) -> Iterator[Simulator]:
    """Runs a simulator on a free port. `options` are of its command line.

    Its log is in the folder `logs`, or else deleted at the end.
    At the end, what Pinflow sent is checked against Pinterest's description.
    """
    port = choose({"simulator": ports.SIMULATOR})["simulator"]
    arguments = (*options, *(() if data is None else ("--data", str(data))))
    command = (sys.executable, "-m", "deploy.simulator", "--port", str(port), *arguments)
    program = Program("simulator", command, {"PYTHONPATH": str(CHECKOUT)})
    with tempfile.TemporaryDirectory() as directory:
        process = RunningProgram(program, logs or Path(directory))
        simulator = Simulator(f"http://127.0.0.1:{port}", process)
        process.start()
        try:
            simulator.wait_until_ready()
            yield simulator
            if process.is_alive:
                simulator.check_requests()
        finally:
            simulator.http.close()
            process.close()
