"""Messages of the HTTP client when Pinflow is unavailable. A fake transport acts as the server."""

from http import HTTPStatus

import httpx
import pytest
import typer

from deploy.cli.client import PinflowClient
from deploy.cli.exit_codes import ExitCode

JOB = "01a22600-0000-7000-8000-000000000001"


def create_client(*answers: httpx.Response) -> PinflowClient:
    """Returns a client without retries. Its server gives these answers one after the other."""
    client = PinflowClient("http://pinflow.example", "key", max_retry_seconds=0)
    remaining = iter(answers)
    client._http = httpx.Client(
        base_url="http://pinflow.example", transport=httpx.MockTransport(lambda _: next(remaining))
    )
    return client


def unavailable(code: str, **details: str) -> httpx.Response:
    detail = {"code": code, "message": "Not known.", **details}
    return httpx.Response(
        HTTPStatus.SERVICE_UNAVAILABLE, json={"detail": detail}, headers={"Retry-After": "2"}
    )


def test_an_import_of_unknown_acceptance_is_named_with_the_next_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = create_client(unavailable("acceptance_unknown", job_id=JOB))
    with pytest.raises(typer.Exit) as exit_error:
        client.submit_json(b"[]", {})
    assert exit_error.value.exit_code == ExitCode.UNAVAILABLE
    printed = capsys.readouterr().err
    assert f"Kafka did not confirm import {JOB} in time (acceptance_unknown)." in printed
    assert "The import may have been accepted. Run the same command again" in printed
    assert "Idempotency-Key" not in printed


def test_a_check_never_claims_to_be_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        create_client(unavailable("service_unavailable")).submit_json(b"[]", {"dry_run": "true"})
    assert "accepted" not in capsys.readouterr().err


def test_a_server_that_answers_need_not_be_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit):
        create_client(unavailable("broker_unavailable")).submit_json(b"[]", {})
    printed = capsys.readouterr().err
    assert "(broker_unavailable)" in printed
    assert "make up" not in printed
