"""Shows the page /oauth/, where a user of Pinterest allows an app to act."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from deploy.simulator.options import Options
from deploy.simulator.scopes import SCOPES
from deploy.simulator.store import SimulatorStore, now
from deploy.simulator.tokens import create_code, split_scopes
from deploy.simulator.users import FIRST_BOARDS, MAX_NAME_CHARACTERS, create_user

CONSENT_PATH = "/oauth/"
FIELDS = ("client_id", "redirect_uri", "response_type", "scope", "state")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem }}
label {{ display: block; margin: .5rem 0 }} button {{ margin: 1rem 1rem 0 0; padding: .5rem 2rem }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def find_problem(values: Mapping[str, str], options: Options) -> str | None:
    """Returns what is wrong with the parameters of an authorization URL."""
    if values.get("client_id") != options.app_id:
        return "The app is unknown. client_id is not the app's id."
    if not is_registered(values.get("redirect_uri", ""), options):
        return "redirect_uri is not registered for the app."
    if values.get("response_type") != "code":
        return "response_type must be code."
    scopes = split_scopes(values.get("scope", ""))
    if not scopes:
        return "scope is missing."
    if unknown := scopes - SCOPES:
        return f"scope has unknown values: {', '.join(sorted(unknown))}."
    return None


def is_registered(redirect_uri: str, options: Options) -> bool:
    if options.redirect_urls:
        return redirect_uri in options.redirect_urls
    try:
        url = urlsplit(redirect_uri)
        host = url.hostname or ""
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
    return url.scheme in ("http", "https") and is_loopback and not url.fragment


def consent_routes(store: SimulatorStore, options: Options) -> list[Route]:
    async def show(request: Request) -> Response:
        values = {name: request.query_params.get(name, "") for name in FIELDS}
        if problem := find_problem(values, options):
            return _error_page(problem)
        with store.transaction() as database:
            rows = database.execute("select id, username from users order by number").fetchall()
        return _consent_page(values, [(row["id"], row["username"]) for row in rows])

    async def decide(request: Request) -> Response:
        form = await request.form()
        values = {name: str(form.get(name, "")) for name in FIELDS}
        if problem := find_problem(values, options):
            return _error_page(problem)
        if form.get("decision") != "allow":
            return _redirect(values, error="access_denied")
        time = now()
        with store.transaction() as database:
            new_name = str(form.get("new_user", "")).strip()
            if len(new_name) > MAX_NAME_CHARACTERS:
                return _error_page(f"A name has at most {MAX_NAME_CHARACTERS} characters.")
            user_id = _find_user(database, new_name or str(form.get("user", "")))
            if user_id is None and new_name:
                user_id = create_user(database, new_name, FIRST_BOARDS, time)
            if user_id is None:
                return _error_page("The user is unknown.")
            code = create_code(
                database,
                user_id,
                values["redirect_uri"],
                values["scope"],
                time + store.settings.code_seconds,
            )
        return _redirect(values, code=code)

    endpoints: dict[str, Callable[[Request], Awaitable[Response]]] = {"GET": show, "POST": decide}
    return [
        Route(CONSENT_PATH, endpoint, methods=[method]) for method, endpoint in endpoints.items()
    ]


def _find_user(database: sqlite3.Connection, user: str) -> str | None:
    """Returns the id of the user with this name or id."""
    row = database.execute("select id from users where ? in (id, username)", (user,)).fetchone()
    return None if row is None else str(row["id"])


def _redirect(values: Mapping[str, str], **result: str) -> Response:
    parameters = {**result, "state": values["state"]} if values["state"] else result
    target = values["redirect_uri"]
    separator = "&" if urlsplit(target).query else "?"
    return RedirectResponse(f"{target}{separator}{urlencode(parameters)}", 303)


def _consent_page(values: Mapping[str, str], users: list[tuple[str, str]]) -> Response:
    hidden = "\n".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in values.items()
    )
    choices = "\n".join(
        f'<label><input type="radio" name="user" value="{escape(user_id)}"'
        f"{' checked' if position == 0 else ''}> {escape(username)}</label>"
        for position, (user_id, username) in enumerate(users)
    )
    scopes = "".join(f"<li>{escape(scope)}" for scope in sorted(split_scopes(values["scope"])))
    body = f"""<p>This is Pinflow's simulator, not Pinterest. The app asks for:</p>
<ul>{scopes}</ul>
<form method="post" action="{CONSENT_PATH}">
{hidden}
<p>Act as the user:</p>
{choices}
<label>Or as a new user with the name:
<input type="text" name="new_user" maxlength="{MAX_NAME_CHARACTERS}" autocomplete="off"></label>
<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button>
</form>"""
    page = PAGE.format(title="Allow access to a simulated account", body=body)
    return HTMLResponse(page, headers=HEADERS)


def _error_page(message: str) -> Response:
    page = PAGE.format(title="The request is invalid", body=f"<p>{escape(message)}</p>")
    return HTMLResponse(page, 400, headers=HEADERS)
