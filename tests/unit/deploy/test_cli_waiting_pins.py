"""Imports say how many pins wait for their delivery."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import waiting_pins
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from shared.contract.schedule_ids import derive_schedule_id
from tests.support.factories import submitted_row
from tests.support.pinflow_server import (
    Answer,
    JsonRow,
    PinflowServer,
    Request,
    create_result,
    running_server,
)

PINS = "/v1/pins"


class PinServer(PinflowServer):
    """Lists pins by their status. After the first list, the account of all of them is paused."""

    def answer(self, request: Request) -> Answer | None:
        if request.path != PINS:
            return super().answer(request)
        pins, status = self.lists[PINS], request.query.get("status")
        self.lists[PINS] = [pin for pin in pins if status in {None, pin["status"]}]
        answer = super().answer(request)
        self.lists[PINS] = [{**pin, "status": "deferred"} for pin in pins]
        return answer


@pytest.fixture
def server() -> Iterator[PinServer]:
    with running_server(PinServer) as server:
        assert isinstance(server, PinServer)
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_rows(tmp_path, 1)


def write_rows(folder: Path, count: int) -> Path:
    rows = [submitted_row(idempotency_key=f"lamp-{number}") for number in range(count)]
    file = folder / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def run(server: PinflowServer, *arguments: str) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, list(arguments), env=variables)


def build_pin(status: str, pin_id: UUID | None = None, delivery: str = "pinterest") -> JsonRow:
    return {"id": str(pin_id or uuid4()), "status": status, "delivery": delivery}


def serve_existing(server: PinflowServer, *pins: JsonRow, **fields: Any) -> None:
    """Answers that the rows exist, and serves each pin. `fields` are of each row's result."""
    server.documents |= {f"{PINS}/{pin['id']}": pin for pin in pins}
    server.judge = lambda number, row: (
        create_result(number, row)
        | {"status": "existing", "existing_state": "queued", "payload_matches": True}
        | {"pin_id": pins[number - 1]["id"] if number <= len(pins) else None}
        | fields
    )


def test_a_pin_that_is_deferred_while_pins_are_counted_counts_once(
    server: PinServer, file: Path
) -> None:
    server.lists[PINS] = [build_pin("queued") for _ in range(4)]
    result = run(server, "import", str(file))
    assert result.exit_code == ExitCode.DONE, result.output
    assert "4 pins wait for delivery to Pinterest. Follow it with:" in result.stdout
    (request,) = (request for request in server.requests if request.path == PINS)
    assert request.query["job_id"] == server.imports[0].job_id


def test_pins_that_wait_are_counted_with_the_deferred_ones(server: PinServer, file: Path) -> None:
    statuses = ("queued", "publishing", "deferred", "deferred", "published", "failed")
    server.lists[PINS] = [build_pin(status) for status in statuses]
    result = run(server, "import", str(file))
    assert (
        "4 pins wait for delivery to Pinterest. Follow it with: pinflow deliveries. 2 of "
        "them are deferred: the command says why. If it shows no pause, see: pinflow pins show ID"
        in result.stdout
    )


def test_no_pin_waits_that_is_published_or_not_for_pinterest(server: PinServer, file: Path) -> None:
    server.lists[PINS] = [build_pin("published"), build_pin("queued", delivery="none")]
    result = run(server, "import", str(file))
    assert result.exit_code == ExitCode.DONE, result.output
    assert "wait for their delivery" not in result.stdout


def test_pins_that_took_the_content_of_an_import_wait_too(
    server: PinServer, tmp_path: Path
) -> None:
    pins = [build_pin("queued"), build_pin("deferred"), build_pin("published")]
    serve_existing(server, *pins, updated=True)
    result = run(server, "import", str(write_rows(tmp_path, 3)), "--on-existing", "update")
    assert result.exit_code == ExitCode.DONE, result.output
    assert (
        "2 pins wait for delivery to Pinterest, 2 of which existed and took the new "
        "content. Follow it with: pinflow deliveries. 1 of them is deferred" in result.stdout
    )
    assert not [request for request in server.requests if request.path == PINS]


def test_an_updated_pin_of_a_schedule_is_found(server: PinServer, file: Path) -> None:
    pin_id = uuid4()
    schedule = {"pin_id": None, "schedule_id": str(derive_schedule_id(pin_id))}
    serve_existing(server, build_pin("queued", pin_id), updated=True, **schedule)
    result = run(server, "import", str(file), "--on-existing", "update")
    assert "1 pin waits for delivery to Pinterest, 1 of which existed" in result.stdout


def test_a_count_of_some_pins_says_so(
    server: PinServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_pins, "MAX_UPDATED", 1)
    serve_existing(server, build_pin("queued"), build_pin("queued"), updated=True)
    result = run(server, "import", str(write_rows(tmp_path, 2)), "--on-existing", "update")
    assert "At least 1 pin waits for delivery" in result.stdout


@pytest.mark.parametrize("fields", [{}, {"updated": True, "existing_state": "scheduled"}])
def test_an_import_that_made_no_pin_due_asks_for_none(
    server: PinServer, file: Path, fields: JsonRow
) -> None:
    serve_existing(server, build_pin("queued"), **fields)
    assert run(server, "import", str(file)).exit_code == ExitCode.DONE
    assert [request for request in server.requests if request.path.startswith(f"{PINS}/")] == [
        request for request in server.requests if request.path.startswith(f"{PINS}/imports")
    ]
