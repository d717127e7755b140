"""Finds what Pinterest would refuse or ignore in a pin that Pinflow accepts.

The pins of accounts that are not connected to Pinterest are stored whole, so this does not concern
them.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from shared.contract.errors import ErrorCode

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v")
SHORTENERS = frozenset(
    {
        "bit.ly",
        "buff.ly",
        "cutt.ly",
        "goo.gl",
        "is.gd",
        "ow.ly",
        "pin.it",
        "rb.gy",
        "rebrand.ly",
        "t.co",
        "tiny.cc",
        "tinyurl.com",
    }
)
"""Hosts of shortened links."""

MESSAGES = {
    ErrorCode.COVER_IGNORED: (
        "Pinterest has covers only for videos. The cover of an image pin is not delivered."
    ),
    ErrorCode.RELATED_TERMS_IGNORED: (
        "Pinterest takes no related_terms of a new pin. They are not delivered."
    ),
    ErrorCode.SHORTENED_LINK: (
        "Pinterest refuses shortened links. Use the address of the page itself as link_url."
    ),
}


def find_advice(
    *,
    image_url: str | None,
    has_cover: bool,
    related_terms: Sequence[str] | None,
    link_url: str | None,
) -> list[ErrorCode]:
    """Returns the keys of MESSAGES that concern a pin."""
    found = []
    if has_cover and image_url is not None and not is_video(image_url):
        found.append(ErrorCode.COVER_IGNORED)
    if related_terms:
        found.append(ErrorCode.RELATED_TERMS_IGNORED)
    if link_url is not None and is_shortened(link_url):
        found.append(ErrorCode.SHORTENED_LINK)
    return found


def is_video(url: str) -> bool:
    """Returns whether the path of a URL ends as those of videos do."""
    try:
        return urlsplit(url).path.lower().endswith(VIDEO_SUFFIXES)
    except ValueError:
        return False


def is_shortened(url: str) -> bool:
    """Returns whether the host of a URL is one of SHORTENERS."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host.removeprefix("www.").rstrip(".") in SHORTENERS
