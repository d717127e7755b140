"""A request hidden in another's body: gateway and services must agree on where each request ends.

What the services saw is read in their logs, by the request ids; what the gateway took for a request
it answered on its connection.
"""

from uuid import uuid4

import httpx
import pytest

from deploy.services import SERVICES
from tests.acceptance.hostile.framing import HIDDEN, SMUGGLING, Smuggling
from tests.acceptance.hostile.wire import Answer, Caller, Connection, answers_in
from tests.support.deployment import Deployment
from tests.support.waiting import wait_until

PATIENCE = 0.2
"""Seconds for one answer more. The gateway closes most connections."""


@pytest.mark.parametrize("smuggling", SMUGGLING, ids=lambda smuggling: smuggling.name)
def test_no_hidden_request_reaches_a_service(
    pinflow: Deployment, caller: Caller, client: httpx.Client, smuggling: Smuggling
) -> None:
    hidden = caller.fill(HIDDEN)
    body = smuggling.raw.partition(b"\r\n\r\n")[2].replace(b"%HIDDEN%", hidden)
    raw = caller.fill(
        smuggling.raw.replace(b"%LENGTH%", b"%d" % len(body)).replace(b"%HIDDEN%", hidden)
    )
    with Connection(pinflow.ports["gateway"]) as connection:
        received = bytearray(connection.send(raw).received(PATIENCE))
        for _ in range(
            3
        ):  # whoever comes next, on the same connections to the services, gets what is theirs
            mine = uuid4().hex
            assert (
                client.get("/v1/pins", headers={"X-Request-ID": mine}).headers["x-request-id"]
                == mine
            )
        if _is_seen(
            pinflow, caller
        ):  # then the gateway took it for a request of its own, and answers it here

            def is_answered() -> bool:
                received.extend(connection.received(PATIENCE))
                return _is_among(answers_in(bytes(received)), caller)

            wait_until(is_answered)
    answers = answers_in(bytes(received))
    assert all(answer.status < 500 or answer.status == 501 for answer in answers), answers


def _is_among(answers: list[Answer], caller: Caller) -> bool:
    return any(answer.headers.get("x-request-id") == f"hidden-{caller.nonce}" for answer in answers)


def _is_seen(pinflow: Deployment, caller: Caller) -> bool:
    return any(
        f'"hidden-{caller.nonce}"' in pinflow.programs[service].log.read_text()
        for service in SERVICES
    )


def test_a_pipelined_request_is_seen(pinflow: Deployment, caller: Caller) -> None:
    """What the others look for, so that they could find it."""
    with Connection(pinflow.ports["gateway"]) as connection:
        assert _is_among([connection.send(caller.fill(HIDDEN)).answer()], caller)
    wait_until(lambda: _is_seen(pinflow, caller))
