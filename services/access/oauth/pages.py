"""Builds the answer of the callback for a browser: a page without scripts, or a redirect."""

import base64
import hashlib
import html
from collections.abc import Mapping
from string import Template
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em;"
    "color:#222}h1{font-size:1.4em}"
)
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<h1>$title</h1>
<p>$message</p>
<p>You can close this page.</p>
</body>
</html>
""")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PRIVATE_HEADERS = {
    # The address of the page has the code and the state
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE_HEADERS = {
    **PRIVATE_HEADERS,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}


def build_page(*, is_connected: bool, message: str) -> str:
    """Builds the page. Everything in it is escaped."""
    return _PAGE.substitute(
        title="Account connected" if is_connected else "Account not connected",
        message=html.escape(message),
        style=_STYLE,
    )


def build_return_url(url: str, parameters: Mapping[str, str]) -> str:
    """Adds parameters to the URL of the setting. No part of it comes from a request."""
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()])
    return urlunsplit(parts._replace(query=query))
