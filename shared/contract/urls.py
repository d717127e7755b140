"""Rules for the URLs of a pin."""

import re

from pydantic_core import PydanticCustomError, Url

_HTTP_SCHEME = re.compile("https?://", re.IGNORECASE).match
_HTTP_HOST = re.compile(r"https?://[^\s/?#\\]", re.IGNORECASE).match
_WHITE_SPACE = re.compile(r"\s").search


def require_http_url(url: str) -> str:
    """Returns the URL unchanged.

    Raises ValueError if it is not an http(s) URL with a host, or has white space in it.
    """
    if _HTTP_SCHEME(url) and (space := _WHITE_SPACE(url)) is not None:
        raise PydanticCustomError(
            "white_space",
            "must not contain white space, but character {position} is a {character}. Remove it, "
            "or write a blank as %20",
            {"position": space.start() + 1, "character": _name(space[0])},
        )
    normalize_url(url)
    return url


def normalize_url(url: str) -> str:
    """Returns the URL as browsers write it, for comparisons.

    Raises ValueError if it is not an http(s) URL with a host.
    """
    if not _HTTP_HOST(url):
        if _HTTP_SCHEME(url):
            raise PydanticCustomError("url_host", "URL has no host. Write it as https://host/path")
        raise PydanticCustomError("url_scheme", "URL must begin with http:// or https://")
    return str(Url(url))


def contains_white_space(url: str) -> bool:
    return _WHITE_SPACE(url) is not None


def _name(character: str) -> str:
    names = {" ": "blank", "\n": "line break", "\r": "line break", "\t": "tab"}
    return names.get(character, f"space U+{ord(character):04X}")
