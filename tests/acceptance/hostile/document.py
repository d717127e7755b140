"""Generates docs/explanation/hostile-input.md from the catalogue.

Run it with `python -m tests.acceptance.hostile.document`.
"""

from deploy.generate.files import ROOT
from tests.acceptance.hostile.catalogue import CATALOGUE
from tests.acceptance.hostile.framing import SMUGGLING

DOCUMENT = ROOT / "docs" / "explanation" / "hostile-input.md"
INTRODUCTION = """\
# Hostile input

After this page you can look up what each kind of hostile request gets as an answer, and you know
which protections are the gateway's and which are the services' own.

The page is generated from the catalogue in tests/acceptance/hostile by
`python -m tests.acceptance.hostile.document`. A test compares it with the catalogue.

## How it is tested

The test sends each request through the gateway and directly to the service (test_requests.py).
Afterwards no process has died or grown by 150 MiB or more, and no import exists that the tables do
not show. No log has a stack trace. No client can start a log line of its own (log injection).

## How to read the tables

- `-` means: the same answer as through the gateway.
- An error without a code is the HTTP parser's answer, in plain text, before Pinflow's code runs:
  Caddy's at the gateway, uvicorn's in a service. Two of Caddy's answers are 5xx, 501 and
  505, because HTTP defines no other status for these cases.
- *row created* and *row failed* are the status of the import's row. An error in a row fails only
  that row.

## What only the gateway refuses

Services trust the network between them and the gateway. Only the gateway refuses huge headers,
requests without a Host, and slow headers. So make sure that only the gateway can
reach the services.
"""
SLOW = """\
## Many slow or large requests at once

test_floods.py tries the first four with 200 to 250 clients. In the first three, another client
imports and queries meanwhile.

| attack | result |
|---|---|
| headers, a byte at a time | the gateway closes the connection after `read_header`, 10 s |
| bodies, a byte at a time | 408 `request_timeout` after `PINFLOW_BODY_SECONDS`, 20 s; \
the gateway's `read_body` is 30 s |
| clients that request a large job and do not read the answer | the gateway closes the \
connection after `write`, 60 s, or `idle`, 75 s |
| 200 imports of 5 MB at the same moment | bodies are read up to \
`PINFLOW_IMPORT_BODIES_AT_ONCE`, 64 MiB, in all; others wait 2 s, then 503 `too_busy` |
| more requests than `PINFLOW_HTTP_CONCURRENCY`, 1000 | 503 `too_busy` \
with Retry-After (test_http.py) |
"""
HIDDEN = """\
## A request hidden in another (request smuggling)

Every request that a service gets is one that the gateway recognized and answered. The next client
on a connection gets the answer to its own request. test_smuggling.py tries (CL is Content-Length,
TE is Transfer-Encoding):

"""


def build_document() -> str:
    parts = [INTRODUCTION]
    for kind, requests in CATALOGUE.items():
        lines = [
            f"| {request.name} | {request.gateway} | {request.direct or '-'} |"
            for request in requests
        ]
        parts.append(
            "\n".join(
                [
                    f"## {kind}\n",
                    "| request | through the gateway | at the service |",
                    "|---|---|---|",
                    *lines,
                ]
            )
            + "\n"
        )
    return "\n".join([*parts, SLOW, HIDDEN + "".join(f"- {hidden.name}\n" for hidden in SMUGGLING)])


if __name__ == "__main__":
    DOCUMENT.write_text(build_document(), encoding="utf-8")
