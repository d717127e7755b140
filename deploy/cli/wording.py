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
    (re.compile(r"\bthe parameter (\w+),? or pinflow import --\1\b"), r"--\1"),
    (
        re.compile(r"\bon_existing=(\w+)(?: \(pinflow import --on-existing \1\))?"),
        r"--on-existing \1",
    ),
    (
        re.compile(r"\bSend it to POST /v1/pins/imports/json, or use `pinflow import (.+?)`"),
        r"Import it with \1",
    ),
    (re.compile(r"\??\bmay_double=true\b"), "--may-double"),
]


def name_options(message: str) -> str:
    """Returns a message of the API in the words of the command line."""
    for pattern, replacement in _REPLACEMENTS:
        message = pattern.sub(replacement, message)
    return message
