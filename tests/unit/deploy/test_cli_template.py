"""`pinflow template`, with the real HTTP client and a small server."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.template import EXAMPLE_ROWS
from shared.contract.pins import PinSubmission
from shared.contract.run_at import parse_run_at
from tests.support.pinflow_server import Answer, PinflowServer, Request, running_server

SHOP, OUTLET, GONE = (f"0b7f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d0{number}" for number in (1, 2, 3))


class Workspace(PinflowServer):
    """A server with accounts and boards."""

    def answer(self, request: Request) -> Answer | None:
        if request.path == "/v1/pinterest/boards":
            return Answer(200, BOARDS[request.query["account_id"]])
        return PinflowServer.answer(self, request)


BOARDS: dict[str, list[dict[str, Any]]] = {
    SHOP: [
        {"id": "159672443110240001", "name": "Herbst"},
        {"id": "159672443110240002", "name": "Sale"},
        {"id": "159672443110240003", "name": "sale"},
    ],
    OUTLET: [{"id": "159672443110240004", "name": "=HYPERLINK()"}],
    GONE: [{"id": "159672443110240005", "name": "Gone"}],
}


def account(account_id: str, name: str, revoked_at: str | None = None) -> dict[str, Any]:
    return {"id": account_id, "display_name": name, "username": None, "revoked_at": revoked_at}


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    accounts = [
        account(SHOP, "Shop"),
        account(OUTLET, "Outlet"),
        account(GONE, "Gone", "2026-01-01T00:00:00Z"),
    ]
    with running_server(Workspace, documents={"/v1/pinterest/accounts": accounts}) as server:
        yield server


def run(server: PinflowServer, *arguments: str) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["template", *arguments], env=variables)


def read_template(result: Result, delimiter: str = ",") -> list[dict[str, str]]:
    text = result.stdout_bytes.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def test_the_template_has_every_column_and_the_workspaces_ids(server: PinflowServer) -> None:
    result = run(server)
    assert result.exit_code == ExitCode.DONE
    assert result.stdout_bytes.startswith("\ufeff".encode())  # Excel needs it for UTF-8
    assert b"\r\n" in result.stdout_bytes
    rows = read_template(result)
    assert rows[0].keys() == PinSubmission.model_fields.keys()
    assert [(row["account_id"], row["board_id"]) for row in rows] == [
        (SHOP, "Herbst"),
        (OUTLET, "159672443110240004"),  # its name would be a formula
        (SHOP, "159672443110240002"),  # two boards have this name
    ]
    assert "Herbst (159672443110240001)" in rows[0]["description"]
    listed = result.stderr.splitlines()
    assert [line.split()[2] for line in listed[1:]] == [
        board["id"] for account_id in (SHOP, OUTLET) for board in BOARDS[account_id]
    ]


def test_a_dash_is_standard_output(
    server: PinflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(server, "--output", "-")
    assert len(read_template(result)) == EXAMPLE_ROWS
    assert "Wrote" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_no_example_row_can_be_published(server: PinflowServer) -> None:
    rows = read_template(run(server))
    assert len(rows) == EXAMPLE_ROWS
    for row in rows:
        filled = {name: value for name, value in row.items() if value}
        with pytest.raises(ValueError, match="image_url"):
            PinSubmission.model_validate(filled)
        filled["image_url"] = "https://cdn.example/1.jpg"
        filled["board_id"] = "159672443110240001"
        pin = PinSubmission.model_validate(filled)
        assert pin.run_at is not None
        assert pin.run_at > datetime.now(UTC) + timedelta(days=20)


def test_keys_differ_between_templates(server: PinflowServer) -> None:
    keys = [row["idempotency_key"] for _ in range(2) for row in read_template(run(server))]
    assert len(set(keys)) == 2 * EXAMPLE_ROWS


def test_times_have_the_offset_of_the_zone(server: PinflowServer) -> None:
    row, *_ = read_template(run(server, "--timezone", "Asia/Kolkata"))
    assert row["run_at"].endswith("T09:00:00+05:30")
    assert parse_run_at(row["run_at"]).hour == 3
    assert read_template(run(server))[0]["run_at"].endswith("T09:00:00Z")
    refused = run(server, "--timezone", "Berlin")
    assert (refused.exit_code, "Europe/Berlin" in refused.stderr) == (ExitCode.REFUSED, True)


@pytest.mark.parametrize(("option", "delimiter"), [(";", ";"), ("tab", "\t"), (",", ",")])
def test_cells_are_separated_as_asked(server: PinflowServer, option: str, delimiter: str) -> None:
    rows = read_template(run(server, "--delimiter", option), delimiter)
    assert rows[0]["account_id"] == SHOP
    assert rows[0]["related_terms"] == "oak shelf, hallway"


def test_a_file_is_only_overwritten_with_force(server: PinflowServer, tmp_path: Path) -> None:
    file = tmp_path / "pins.csv"
    written = run(server, "--output", str(file))
    assert (written.exit_code, written.stdout) == (ExitCode.DONE, "")
    assert f"pinflow check {file}" in written.stderr
    file.write_text("mine")
    refused = run(server, "--output", str(file))
    assert (refused.exit_code, "--force" in refused.stderr) == (ExitCode.REFUSED, True)
    assert file.read_text() == "mine"
    assert run(server, "--output", str(file), "--force").exit_code == ExitCode.DONE
    assert file.read_text("utf-8-sig").startswith("account_id,")


def test_a_key_without_boards_is_told_who_adds_them(server: PinflowServer) -> None:
    server.documents["/v1/pinterest/accounts"] = []
    result = run(server)
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert "pinflow boards add" in result.stderr
