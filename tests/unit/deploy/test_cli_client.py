"""What the command says when Pinflow can't answer: the server is stood in for."""

from http import HTTPStatus

import httpx
import pytest
import typer

from deploy.cli.client import PinflowClient
from deploy.cli.exit_codes import ExitCode

JOB = "01a22600-0000-7000-8000-000000000001"


def client_of(*answers: httpx.Response) -> PinflowClient:
    """A client without patience, of a server that gives these answers one after the other."""
    client = PinflowClient("http://pinflow.example", "key", max_retry_seconds=0)
    told = iter(answers)
    client._http = httpx.Client(
        base_url="http://pinflow.example", transport=httpx.MockTransport(lambda _: next(told))
    )
    return client


def unavailable(code: str, **details: str) -> httpx.Response:
    detail = {"code": code, "message": "It can't be told.", **details}
    return httpx.Response(
        HTTPStatus.SERVICE_UNAVAILABLE, json={"detail": detail}, headers={"Retry-After": "2"}
    )


def test_an_import_in_doubt_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    client = client_of(unavailable("acceptance_unknown", job_id=JOB), unavailable("status_behind"))
    with pytest.raises(typer.Exit) as ended:
        client.submit_json(b"[]", strict=False)
    assert ended.value.exit_code == ExitCode.UNAVAILABLE
    said = capsys.readouterr().err
    assert f"pinflow imports show {JOB}" in said
    assert "completely or not at all" in said


def test_a_server_that_answers_is_not_said_to_be_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit):
        client_of(unavailable("broker_unavailable")).submit_json(b"[]", strict=False)
    said = capsys.readouterr().err
    assert "(broker_unavailable)" in said
    assert "make up" not in said
