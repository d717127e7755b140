"""Request smuggling: gateway and services must agree on the end of each request.

Request ids in the services' logs show which requests the services saw. On the client's connection,
the gateway answers each request that it recognized.
"""

from uuid import uuid4

import httpx
import pytest

from deploy.services import SERVICES
from tests.acceptance.hostile.framing import HIDDEN, SMUGGLING, Smuggling
from tests.acceptance.hostile.wire import Answer, Caller, Connection, parse_answers
from tests.support.deployment import Deployment
from tests.support.waiting import wait_until

ANSWER_SECONDS = 0.2
"""Seconds to wait for a further answer. The gateway closes most connections."""


@pytest.mark.parametrize("smuggling", SMUGGLING, ids=lambda smuggling: smuggling.name)
def test_a_service_sees_only_requests_that_the_gateway_answers(
    pinflow: Deployment, caller: Caller, client: httpx.Client, smuggling: Smuggling
) -> None:
    hidden = caller.fill(HIDDEN)
    body = smuggling.raw.partition(b"\r\n\r\n")[2].replace(b"%HIDDEN%", hidden)
    raw = caller.fill(
        smuggling.raw.replace(b"%LENGTH%", b"%d" % len(body)).replace(b"%HIDDEN%", hidden)
    )
    with Connection(pinflow.ports["gateway"]) as connection:
        received = bytearray(connection.send(raw).read_available(ANSWER_SECONDS))
        # The next requests on the same connections to the services get their own answers
        for _ in range(3):
            request_id = uuid4().hex
            assert (
                client.get("/v1/pins", headers={"X-Request-ID": request_id}).headers["x-request-id"]
                == request_id
            )
        # If a service saw the hidden request, the gateway recognized it too and answers it here
        if _is_seen(pinflow, caller):

            def is_answered() -> bool:
                received.extend(connection.read_available(ANSWER_SECONDS))
                return _is_among(parse_answers(bytes(received)), caller)

            wait_until(is_answered)
    answers = parse_answers(bytes(received))
    assert all(answer.status < 500 or answer.status == 501 for answer in answers), answers


def _is_among(answers: list[Answer], caller: Caller) -> bool:
    return any(answer.headers.get("x-request-id") == f"hidden-{caller.nonce}" for answer in answers)


def _is_seen(pinflow: Deployment, caller: Caller) -> bool:
    return any(
        f'"hidden-{caller.nonce}"' in pinflow.programs[service].log.read_text()
        for service in SERVICES
    )


def test_a_pipelined_request_is_found_in_the_logs(pinflow: Deployment, caller: Caller) -> None:
    """Proves that the other tests would find a hidden request."""
    with Connection(pinflow.ports["gateway"]) as connection:
        assert _is_among([connection.send(caller.fill(HIDDEN)).read_answer()], caller)
    wait_until(lambda: _is_seen(pinflow, caller))
