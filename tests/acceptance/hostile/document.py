"""docs/explanation/hostile-input.md, made from the catalogue.

Run it with `python -m tests.acceptance.hostile.document`.
"""

from deploy.generate.files import ROOT
from tests.acceptance.hostile.catalogue import CATALOGUE
from tests.acceptance.hostile.framing import SMUGGLING

DOCUMENT = ROOT / "docs" / "explanation" / "hostile-input.md"
INTRODUCTION = """\
# Hostile input and its answers

Made from the catalogue in tests/acceptance/hostile by
`python -m tests.acceptance.hostile.document`; a test compares. Each line is tried at every
`make test`, through the gateway and directly at the service (test_requests.py), and after all of
it: no process has died or grown, nothing was accepted but what the table says, no log has a trace,
or a line that a client began. `-` is the same answer.

An answer without a code is the HTTP parser's own, in plain text, before any of Pinflow's code has
run: Caddy's at the gateway, uvicorn's in a service. Two of Caddy's are 5xx, 501 and 505, as HTTP
has no other for what they say. *row created* and *row failed* are what became of the import's row:
what is wrong with a row fails that row. Services trust the network between them and the gateway:
headers of any size, requests without a Host and slow headers are the gateway's to refuse. Let
nothing else reach them.
"""
SLOW = """\
## Slow and large, at once

test_floods.py does each of these with 200 to 250 clients, while another imports and queries.

| tried | what happens |
|---|---|
| headers, a byte at a time | the gateway closes the connection after `read_header`, 10 s |
| bodies, a byte at a time | 408 `request_timeout` after `PINFLOW_BODY_SECONDS`, 20 s; \
the gateway's `read_body` is 30 s |
| readers of a large job that do not read | the gateway closes after `write`, 60 s, \
or `idle`, 75 s |
| 200 imports of 5 MB at the same moment | read as far as \
`PINFLOW_IMPORT_BODIES_AT_ONCE`, 64 MiB, allows; others wait 2 s: 503 `too_busy` |
| more requests than `PINFLOW_HTTP_CONCURRENCY`, 1000 | 503 `too_busy` \
with Retry-After (test_http.py) |
"""


HIDDEN = """\
## A request hidden in another

No service ever sees one that the gateway did not take for a request of its own, answered on the
same connection, and whoever comes next gets what is theirs (test_smuggling.py): """


def text() -> str:
    parts = [INTRODUCTION]
    for kind, tried in CATALOGUE.items():
        lines = [f"| {one.name} | {one.gateway} | {one.direct or '-'} |" for one in tried]
        parts.append(
            "\n".join(
                [
                    f"## {kind}\n",
                    "| tried | through the gateway | at the service |",
                    "|---|---|---|",
                    *lines,
                ]
            )
            + "\n"
        )
    return "\n".join([*parts, SLOW, HIDDEN + "; ".join(one.name for one in SMUGGLING) + ".\n"])


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
