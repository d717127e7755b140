"""Finds the field that a client means by a name: in a JSON object, or in a spreadsheet's header.

One policy for all inputs. A known alias stands for its field. A name that is nearly a known one is
refused with a suggestion, because its values would be lost without notice. Any other name is
ignored with a warning.
"""

import re
from collections.abc import Collection
from functools import lru_cache

ALIASES = {
    # Pinterest's template for bulk uploads
    "mediaurl": "image_url",
    "pinterestboard": "board_id",
    "thumbnail": "cover_image_url",
    "link": "link_url",
    "publishdate": "run_at",
    "keywords": "related_terms",
    # Common names
    "account": "account_id",
    "accountname": "account_id",
    "pinterestaccount": "account_id",
    "board": "board_id",
    "boardname": "board_id",
    "headline": "title",
    "pintitle": "title",
    "pindescription": "description",
    "destinationlink": "link_url",
    "destinationurl": "link_url",
    "targeturl": "link_url",
    "image": "image_url",
    "imagelink": "image_url",
    "photo": "image_url",
    "photourl": "image_url",
    "picture": "image_url",
    "pictureurl": "image_url",
    "alt": "alt_text",
    "alternativetext": "alt_text",
    "imagealt": "alt_text",
    "imagealttext": "alt_text",
    "coverimage": "cover_image_url",
    "coverurl": "cover_image_url",
    "thumbnailurl": "cover_image_url",
    "keyword": "related_terms",
    "tag": "related_terms",
    "tags": "related_terms",
    "terms": "related_terms",
    "colour": "dominant_color",
    "color": "dominant_color",
    "dominantcolour": "dominant_color",
    "publishat": "run_at",
    "publishtime": "run_at",
    "publicationdate": "run_at",
    "scheduledate": "run_at",
    "scheduleddate": "run_at",
    "scheduledtime": "run_at",
    "scheduledat": "run_at",
    "scheduledfor": "run_at",
    "publishon": "run_at",
    "publishdatetime": "run_at",
    "publicationtime": "run_at",
    "publicationdatetime": "run_at",
    "postat": "run_at",
    "poston": "run_at",
    "postdate": "run_at",
    "posttime": "run_at",
    "postdatetime": "run_at",
    "postingdate": "run_at",
    "postingtime": "run_at",
    "scheduleat": "run_at",
    "scheduleon": "run_at",
    "schedulefor": "run_at",
    "scheduletime": "run_at",
    "scheduledatetime": "run_at",
    "scheduledon": "run_at",
    "scheduleddatetime": "run_at",
    "uniquekey": "idempotency_key",
}
"""The field of each alias. The aliases are in the form of `normalize_name`."""

MAX_UNKNOWN_NAMES = 200
"""Unknown names that a row or another object may have, as many as a CSV file has columns.

A hostile object may have half a million. An object with more is refused, because one of the others
could be misspelled.
"""
MAX_LISTED_NAMES = 50
"""Names that a warning lists."""
MAX_LISTED_NAME_LENGTH = 100
"""Characters of a name in such a list."""
MIN_COMPARED_ALIAS_LENGTH = 9
"""Misspellings of shorter aliases are not looked for: `deadline` does not mean `headline`."""
_SEPARATORS = re.compile(r"[\W_]+")
MAX_COMPARED_LENGTH = 64
"""Longer names have no suggestion. The limit keeps the comparison of a hostile name short."""


def normalize_name(name: str) -> str:
    """Returns the name without case, blanks, hyphens, underscores and invisible characters."""
    return _SEPARATORS.sub("", name).casefold()


def find_alias(name: str) -> str | None:
    """Returns the field that an alias stands for, in any spelling. None if it is no alias."""
    return ALIASES.get(normalize_name(name))


def suggest_field(name: str, known: Collection[str]) -> str | None:
    """Returns the known field of which the name is a misspelling, or None.

    A misspelling has the same letters and digits as a field. Or it differs from a field or a long
    alias by one typing error: a character that is missing, added or wrong, or two swapped ones.
    """
    if len(name) > MAX_COMPARED_LENGTH:
        return None
    return _suggest(normalize_name(name), frozenset(known))


def describe_misspelling(field: str) -> str:
    """Describes the fault of a field whose name is a misspelling of `field`."""
    return f"There is no such field. Did you mean {field}? Correct its name."


@lru_cache(maxsize=4096)
def _suggest(normalized: str, known: frozenset[str]) -> str | None:
    candidates = _collect_candidates(known)
    if (exact := candidates.get(normalized)) is not None:
        return exact
    return next(
        (
            field
            for name, field in candidates.items()
            if abs(len(name) - len(normalized)) <= 1
            and _differs_by_one_typing_error(normalized, name)
        ),
        None,
    )


@lru_cache(maxsize=256)
def _collect_candidates(known: frozenset[str]) -> dict[str, str]:
    """Returns the fields, by the names with which an unknown name is compared."""
    candidates = {
        alias: field
        for alias, field in ALIASES.items()
        if field in known and len(alias) >= MIN_COMPARED_ALIAS_LENGTH
    }
    # The fields come first: of two that are nearly the name, the suggestion is a field's own name
    return {normalize_name(field): field for field in sorted(known)} | candidates


def _differs_by_one_typing_error(sent: str, known: str) -> bool:
    start = 0
    while start < min(len(sent), len(known)) and sent[start] == known[start]:
        start += 1
    rest_sent, rest_known = sent[start:], known[start:]
    if len(sent) == len(known):
        is_swap = rest_sent[:2] == rest_known[1::-1] and rest_sent[2:] == rest_known[2:]
        return is_swap or rest_sent[1:] == rest_known[1:]
    return rest_sent[1:] == rest_known or rest_sent == rest_known[1:]
