"""Translates messages of the API: names the options of the commands for its parameters."""

import re

_REPLACEMENTS = [
    (
        re.compile(r"\bGET /v1/pinterest/(?:accounts|boards\?account_id=\S+), or (?=pinflow )"),
        "",
    ),
    (re.compile(r"\bstrict=true\b"), "--strict"),
    (re.compile(r"\bpast_run_at=fail, or pinflow import --past fail\b"), "--past fail"),
    (re.compile(r"\bpast_run_at=fail \(or --past fail\)"), "--past fail"),
]


def name_options(message: str) -> str:
    """Returns a message of the API in the words of the command line."""
    for pattern, replacement in _REPLACEMENTS:
        message = pattern.sub(replacement, message)
    return message
