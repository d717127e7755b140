"""Rules for the URLs of a pin."""

import re

from pydantic_core import PydanticCustomError, Url

_HTTP_SCHEME = re.compile("https?://", re.IGNORECASE).match
_HTTP_HOST = re.compile(r"https?://[^\s/?#\\]", re.IGNORECASE).match
_HOST = len("https://")
_ENDS_OF_HOST = "/?#\\\t\n\r"
_WHITE_SPACE = re.compile(r"\s").search


def require_http_url(url: str) -> str:
    """Returns the URL unchanged.

    Raises ValueError if it is not an http(s) URL with a host, or has white space in it.
    """
    if _WHITE_SPACE(url):
        raise _explain(url)
    normalize_url(url)
    return url


def normalize_url(url: str) -> str:
    """Returns the URL as browsers write it, for comparisons.

    Raises ValueError if it is not an http(s) URL with a host, or has a blank in it.
    """
    # The usual URL in half the time of the pattern
    is_usual = url.startswith("https://") and url[_HOST : _HOST + 1] not in _ENDS_OF_HOST
    if " " in url or not (is_usual or _HTTP_HOST(url)):
        raise _explain(url)
    return str(Url(url))


def _explain(url: str) -> PydanticCustomError:
    """Explains why a text is no URL of a pin."""
    if not _HTTP_SCHEME(url):
        return PydanticCustomError("url_scheme", "URL must begin with http:// or https://")
    if (space := _WHITE_SPACE(url)) is not None:
        return PydanticCustomError(
            "white_space",
            "must not contain white space, but character {position} is a {character}. Remove it, "
            "or write a blank as %20",
            {"position": space.start() + 1, "character": _name(space[0])},
        )
    return PydanticCustomError("url_host", "URL has no host. Write it as https://host/path")


def _name(character: str) -> str:
    names = {" ": "blank", "\n": "line break", "\r": "line break", "\t": "tab"}
    return names.get(character, f"space U+{ord(character):04X}")
