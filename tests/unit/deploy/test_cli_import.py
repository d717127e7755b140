"""`pinflow import`, with the real HTTP client and a small server."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import submission
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.placeholder import PLACEHOLDER
from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES
from shared.spreadsheets.result_files import RowWithResult, write_results
from tests.support.pinflow_server import (
    Answer,
    JsonRow,
    PinflowServer,
    Request,
    create_result,
    read_rows,
    refuse,
    running_server,
)

HEADER = ["account_id", "board_id", "title", "image_url", "idempotency_key", "run_at"]
BUSY = refuse(429, "too_many_unsettled_rows", "The workspace has too many unsettled rows.")
FUTURE = "2031-05-01T09:00:00Z"


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.01)


def run(server: PinflowServer, *arguments: str, **options: Any) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["import", *arguments], env=variables, **options)


def build_row(number: int, **fields: Any) -> JsonRow:
    return {
        "account_id": "0b7f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01",
        "board_id": "159672443110240001",
        "title": f"Lamp {number}",
        "image_url": f"https://cdn.example/{number}.jpg",
        "idempotency_key": f"lamp-{number}",
        "run_at": "",
        **fields,
    }


def encode_csv(rows: Sequence[JsonRow]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, HEADER)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def write_csv(directory: Path, count: int, **fields: Any) -> str:
    file = directory / "pins.csv"
    file.write_bytes(encode_csv([build_row(number, **fields) for number in range(1, count + 1)]))
    return str(file)


def write(directory: Path, name: str, data: bytes) -> str:
    (directory / name).write_bytes(data)
    return str(directory / name)


def fail_rows(*keys: str) -> Callable[[int, JsonRow], JsonRow]:
    def judge(number: int, row: JsonRow) -> JsonRow:
        if row["idempotency_key"] not in keys:
            return create_result(number, row)
        return create_result(number, row) | {
            "status": "failed",
            "pin_id": None,
            "error_code": "validation_error",
            "error_message": "title: must not be blank",
            "line": number + 1,
        }

    return judge


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pins.csv", b"\xef\xbb\xbf" + encode_csv([build_row(1)]) + b"\n\n"),
        ("pins.csv", encode_csv([build_row(1)]).decode().encode("utf-16")),
        ("pins.csv", encode_csv([build_row(1), build_row(2)] * 250)),
        ("pins.json", b'\xef\xbb\xbf\n[ {"title": "\\u00e4",  "n": 1.50} ]\n'),
    ],
)
def test_a_file_of_up_to_500_rows_is_sent_unchanged(
    server: PinflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
) -> None:
    monkeypatch.setattr("tests.support.pinflow_server.read_rows", lambda _: [build_row(1)])
    server.overrides.append(refuse(422, "invalid_csv", "Enough."))
    result = run(server, write(tmp_path, name, data))
    assert result.exit_code == ExitCode.REFUSED
    (request,) = server.requests
    assert data in request.body
    assert "Enough. (invalid_csv)" in result.stderr


def test_a_long_file_is_split_in_order_and_reported_as_one(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.judge = fail_rows("lamp-1", "lamp-501", "lamp-1203")
    rows = [build_row(number) for number in range(1, 1204)]
    rows[599]["title"] = 'A "quoted" lamp,\nin two lines'
    result = run(server, write(tmp_path, "pins.csv", encode_csv(rows)))
    assert result.exit_code == ExitCode.ROWS_FAILED
    assert [len(received.rows) for received in server.imports] == [500, 500, 203]
    assert [row for received in server.imports for row in received.rows] == rows
    assert [received.filename for received in server.imports] == [
        "pins.csv, rows 1 to 500",
        "pins.csv, rows 501 to 1000",
        "pins.csv, rows 1001 to 1203",
    ]
    words = " ".join(result.stdout.split())
    assert "Accepted 1203 rows: 1203 now, 0 scheduled." in words
    assert (
        "3 imports: completed_with_errors. 1203 of 1203 rows have a result: 1200 created" in words
    )
    assert f"{server.imports[1].job_id} 501-1000 completed_with_errors 499 0 1" in words
    assert "row line idempotency_key error_code errors 1 2 lamp-1" in words
    assert "501 502 lamp-501" in words
    assert "1203 1205 lamp-1203" in words  # a row above has two lines


def test_the_report_of_a_long_file_is_one_json_document(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.judge = fail_rows("lamp-502")
    server.warnings = [
        {"code": "past_run_at", "message": "Rows have passed.", "row_numbers": [2, 7]},
        {"code": "field_aliases", "message": "Link was read as link_url.", "row_numbers": []},
    ]
    result = run(server, write_csv(tmp_path, 700), "--json")
    job = json.loads(result.stdout)
    assert [part["id"] for part in job["imports"]] == [part.job_id for part in server.imports]
    assert (job["status"], job["created_rows"], job["failed_rows"]) == (
        "completed_with_errors",
        699,
        1,
    )
    assert [row["row_number"] for row in job["results"]] == list(range(1, 701))
    (failed,) = (row for row in job["results"] if row["status"] == "failed")
    assert (failed["row_number"], failed["line"], failed["job_id"]) == (
        502,
        503,
        server.imports[1].job_id,
    )
    assert [warning["row_numbers"] for warning in job["warnings"]] == [[2, 7, 502, 507], []]


def test_keys_that_rows_of_different_imports_share_are_a_warning(
    server: PinflowServer, tmp_path: Path
) -> None:
    keys = {501: "lamp-2", 502: "lamp-3", 600: "lamp-599", 601: "lamp-4"}
    rows = [build_row(n, idempotency_key=keys.get(n, f"lamp-{n}")) for n in range(1, 602)]
    rows[600] = rows[3] | {"title": " Lamp 4 "}
    server.judge = fail_rows("lamp-3")
    text = "Rows share an idempotency_key but differ in content: lamp-599 in rows 99, 100."
    server.warnings = [{"code": "duplicate_keys", "message": text, "row_numbers": [99, 100]}]
    for format_, data in (("csv", encode_csv(rows)), ("json", json.dumps(rows).encode())):
        result = run(server, write(tmp_path, f"pins.{format_}", data), "--json")
        warnings = json.loads(result.stdout)["warnings"]
        (shared,) = [warning for warning in warnings if 501 in warning["row_numbers"]]
        assert "lamp-2 in rows 2, 501; lamp-599 in rows 599, 600. Only" in shared["message"]
        assert shared["row_numbers"] == [2, 501, 599, 600]


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_import_waits_for_an_earlier_one_with_the_same_key(
    server: PinflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    rows = [build_row(number) for number in range(1, 1502)]
    if is_shared:
        rows[1000]["idempotency_key"] = "lamp-501"  # of the second import
    answer, unfinished = server.answer, 5

    def answer_slowly(request: Request) -> Answer | None:
        nonlocal unfinished
        answered = answer(request)
        if answered is None or request.method == "POST" or not unfinished:
            return answered
        unfinished -= 1
        assert isinstance(answered.document, dict)
        return answered._replace(document=answered.document | {"completed_at": None})

    monkeypatch.setattr(server, "answer", answer_slowly)
    result = run(server, write(tmp_path, "pins.csv", encode_csv(rows)))
    assert result.exit_code == ExitCode.DONE
    posts = [place for place, request in enumerate(server.requests) if request.method == "POST"]
    second = f"/{server.imports[1].job_id}"
    between = server.requests[posts[1] : posts[2]]
    polled = [request.query for request in between if request.path.endswith(second)]
    assert ({} in polled) == is_shared  # with its results, so it had ended
    assert len(posts) == 4


def test_a_warning_about_shared_keys_has_the_row_numbers_of_the_file(
    server: PinflowServer, tmp_path: Path
) -> None:
    text = "Rows share an idempotency_key but differ in content: k in rows 2, 7 …; l in rows 3, 4."
    server.warnings = [{"code": "duplicate_keys", "message": text, "row_numbers": [2, 3, 4, 7]}]
    job = json.loads(run(server, write_csv(tmp_path, 510), "--json").stdout)
    assert [(warning["message"], warning["row_numbers"]) for warning in job["warnings"]] == [
        (text, [2, 3, 4, 7]),
        (text.replace("2, 7", "502, 507").replace("3, 4", "503, 504"), [502, 503, 504, 507]),
    ]


def test_json_with_a_doubled_byte_order_mark_is_imported(
    server: PinflowServer, tmp_path: Path
) -> None:
    data = b"\xef\xbb\xbf" * 2 + json.dumps([{"title": "x"}] * 501).encode()
    server.judge = lambda number, row: create_result(number, {"idempotency_key": "k", **row})
    assert run(server, write(tmp_path, "pins.json", data)).exit_code == ExitCode.DONE
    assert [len(received.rows) for received in server.imports] == [500, 1]


def test_rows_of_a_long_json_file_keep_their_text(server: PinflowServer, tmp_path: Path) -> None:
    rows = [
        f'{{"title": "L\\u00e4mpe {number}", "n": 1.50, "idempotency_key": "k{number}"}}'
        for number in range(501)
    ]
    result = run(server, write(tmp_path, "pins.json", f" [ {' , '.join(rows)} ]\n".encode()))
    assert result.exit_code == ExitCode.DONE
    assert [received.data.decode() for received in server.imports] == [
        "[" + ",\n".join(rows[:500]) + "]",
        "[" + rows[500] + "]",
    ]


def test_no_wait_names_every_import(server: PinflowServer, tmp_path: Path) -> None:
    result = run(server, write_csv(tmp_path, 501, run_at=FUTURE), "--no-wait")
    assert result.exit_code == ExitCode.DONE
    accepted, *lines = result.stdout.splitlines()
    assert accepted == "Accepted 501 rows: 0 now, 501 scheduled."
    assert [line.split()[1] for line in lines] == [part.job_id for part in server.imports]


def test_a_lower_limit_of_the_body_makes_smaller_imports(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.limit_bytes = 20_000
    result = run(server, write_csv(tmp_path, 400))
    assert result.exit_code == ExitCode.DONE
    assert len(server.imports) > 2
    assert [row["idempotency_key"] for part in server.imports for row in part.rows] == [
        f"lamp-{number}" for number in range(1, 401)
    ]
    refused = (
        len(server.requests)
        - sum(request.method == "GET" for request in server.requests)
        - len(server.imports)
    )
    assert refused == 1


def test_few_large_rows_are_split_before_they_are_sent(
    server: PinflowServer, tmp_path: Path
) -> None:
    rows = [build_row(number, title="x" * 1_000_000) for number in range(6)]
    assert run(server, write(tmp_path, "pins.csv", encode_csv(rows))).exit_code == ExitCode.DONE
    assert [len(received.rows) for received in server.imports] == [5, 1]
    posts = [len(request.body) for request in server.requests if request.method == "POST"]
    assert max(posts) <= MAX_IMPORT_BODY_BYTES


def test_a_long_file_with_ignored_times_at_its_end_is_refused_before_the_first_import(
    server: PinflowServer, tmp_path: Path
) -> None:
    text = "account_id,board_id,title,image_url,idempotency_key,Date\n"
    text += "".join(f"a,b,t,https://x.example,k{number},2020-01-01\n" for number in range(700))
    text += "a,b,t,https://x.example,k,2031-02-01\n"
    file = write(tmp_path, "pins.csv", text.encode())
    result = run(server, file)
    assert result.exit_code == ExitCode.REFUSED
    assert "A column has times in the future: Date" in result.stderr
    assert "(unknown_columns)" in result.stderr
    assert server.requests == []


def test_a_row_that_is_too_large_alone_is_named(server: PinflowServer, tmp_path: Path) -> None:
    server.limit_bytes = 2000
    rows = [build_row(1), build_row(2, title="x" * 3000)]
    result = run(server, write(tmp_path, "pins.csv", encode_csv(rows)))
    assert result.exit_code == ExitCode.REFUSED
    assert "Row 2 alone is larger than an import may be, 2000 bytes" in result.stderr
    assert server.imports == []
    whole = run(server, write(tmp_path, "pins.json", b'{"rows": "' + b"x" * 3000 + b'"}'))
    assert (whole.exit_code, "payload_too_large" in whole.stderr) == (ExitCode.REFUSED, True)


def test_a_refused_portion_names_the_accepted_ones_and_what_to_do(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.overrides = [None, refuse(401, "unauthorized", "The API key is not valid.")]
    result = run(server, write_csv(tmp_path, 1200))
    assert result.exit_code == ExitCode.REFUSED
    assert "Rows 1 to 500 of 1200 rows were accepted, as 1 import:" in result.stderr
    assert server.imports[0].job_id in result.stderr
    assert "run the same command again" in result.stderr


def test_a_busy_pinflow_is_waited_for_between_portions(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.overrides = [None, BUSY, None]
    result = run(server, write_csv(tmp_path, 600))
    assert result.exit_code == ExitCode.DONE
    assert "Trying again in 1 s." in result.stderr
    server.overrides = [None, BUSY]
    result = run(server, write_csv(tmp_path, 600), "--patience", "0")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Rows 1 to 500 of 600 rows were accepted" in result.stderr


@pytest.mark.parametrize(
    "lost",
    [
        None,
        refuse(503, "acceptance_unknown", "Not known.", job_id="a-job"),
        refuse(503, "service_unavailable", "Nothing answers."),
        refuse(409, "request_in_progress", "Wait."),
    ],
    ids=["closed", "acceptance_unknown", "service_unavailable", "request_in_progress"],
)
def test_an_import_whose_answer_was_lost_is_sent_again_as_the_same_import(
    server: PinflowServer, tmp_path: Path, lost: Answer | None
) -> None:
    server.lost = [lost]
    result = run(server, write_csv(tmp_path, 600))
    assert result.exit_code == ExitCode.DONE, result.stderr
    assert [len(received.rows) for received in server.imports] == [500, 100]
    keys = [request.headers["idempotency-key"] for request in server.requests if request.body]
    assert keys[0] == keys[1] != keys[2]
    run(server, write_csv(tmp_path, 600))
    assert len(server.imports) == 4  # another run is another import


def test_a_command_without_an_answer_says_what_may_have_happened(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.lost = [None]
    result = run(server, write_csv(tmp_path, 1), "--patience", "0")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "The import may have been accepted. Run the same command again" in result.stderr
    server.overrides = [refuse(503, "database_unavailable", "Postgres is away.")]
    result = run(server, write_csv(tmp_path, 1), "--patience", "0")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "may have been accepted" not in result.stderr


def test_an_interrupted_import_says_what_continues(
    server: PinflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(number: int, row: JsonRow) -> JsonRow:
        raise KeyboardInterrupt

    monkeypatch.setattr(submission.Submission, "_read_job", interrupt)
    result = run(server, write_csv(tmp_path, 3))
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "All 3 rows were accepted, as 1 import:" in result.stderr
    assert "pinflow imports watch ID" in result.stderr
    result = run(server, write_csv(tmp_path, 1100))
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Rows 1 to 1000 of 1100 rows were accepted" in result.stderr


def test_every_parameter_is_sent(server: PinflowServer, tmp_path: Path) -> None:
    data = encode_csv([build_row(1)])
    options = ("--timezone", "Europe/Berlin", "--account", "Shop & Co", "--past", "fail")
    more = ("--encoding", "utf-8", "--strict", "--on-existing", "revive")
    run(server, write(tmp_path, "pins.csv", data), *options, *more)
    run(server, write(tmp_path, "pins.csv", data))
    assert [received.query for received in server.imports] == [
        {
            "timezone": "Europe/Berlin",
            "account": "Shop & Co",
            "past_run_at": "fail",
            "encoding": "utf-8",
            "strict": "true",
            "on_existing": "revive",
        },
        {},
    ]


def test_portions_are_utf_8_whatever_the_files_encoding(
    server: PinflowServer, tmp_path: Path
) -> None:
    rows = [build_row(number, title="Лампа") for number in range(501)]
    data = encode_csv(rows).decode().encode("windows-1251")
    run(server, write(tmp_path, "pins.csv", data), "--encoding", "windows-1251")
    assert [received.query for received in server.imports] == [{}, {}]
    assert {row["title"] for part in server.imports for row in part.rows} == {"Лампа"}


def test_an_account_may_stand_for_the_column(server: PinflowServer, tmp_path: Path) -> None:
    data = b"board_id,title,image_url,idempotency_key\nb,t,https://cdn.example/1.jpg,k\n"
    file = write(tmp_path, "pins.csv", data)
    assert run(server, file, "--account", "Shop").exit_code == ExitCode.DONE
    refused = run(server, file)
    assert (refused.exit_code, "missing_columns" in refused.stderr) == (ExitCode.REFUSED, True)


# Rows dated in the past


def write_past(directory: Path) -> str:
    past = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    rows = [build_row(1), build_row(2, run_at=past), build_row(3, run_at=FUTURE)]
    return write(directory, "pins.csv", encode_csv(rows))


def test_rows_of_the_past_are_a_warning_where_nobody_can_be_asked(
    server: PinflowServer, tmp_path: Path
) -> None:
    result = run(server, write_past(tmp_path))
    assert result.exit_code == ExitCode.DONE
    assert "Warning: 1 of 3 rows has a run_at that has passed: row 2." in result.stderr
    assert "--past fail" in result.stderr
    assert "past" not in result.stdout
    for silent in (("--yes",), ("--past", "publish"), ("--past", "fail")):
        assert "has passed" not in run(server, write_past(tmp_path), *silent).stderr


def test_rows_of_the_past_are_named_once_and_in_the_zone_of_their_times(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.warnings = [{"code": "past_run_at", "message": "1 row has passed.", "row_numbers": [1]}]
    rows = [build_row(1, run_at="2020-01-01 09:00")]
    file = write(tmp_path, "pins.csv", encode_csv(rows))
    result = run(server, file, "--timezone", "Europe/Berlin")
    assert "The oldest is 2020-01-01 09:00:00 (Europe/Berlin)." in result.stderr
    assert "passed" not in result.stdout
    assert "Warning: 1 row has passed. (row 1)" in run(server, file, "--past", "publish").stdout
    assert "past_run_at" in run(server, file, "--timezone", "Europe/Berlin", "--json").stdout


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("y\n", {"past_run_at": "publish"}),
        ("o\n", {"past_run_at": "fail"}),
        ("?\nn\n", None),
        ("", None),
    ],
)
def test_on_a_terminal_the_command_asks_before_it_publishes_rows_of_the_past(
    server: PinflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    query: dict[str, str] | None,
) -> None:
    monkeypatch.setattr("deploy.cli.past_question.can_ask", lambda: True)
    result = run(server, write_past(tmp_path), input=answer)
    assert [received.query for received in server.imports] == ([] if query is None else [query])
    assert result.exit_code == (ExitCode.REFUSED if query is None else ExitCode.DONE)
    assert ("Nothing was imported." in result.stderr) == (query is None)
    assert "The oldest is 20" in result.stderr


@pytest.mark.parametrize("name", ["run_at", "Publish date"])
def test_times_of_json_rows_are_read_in_the_zone(
    server: PinflowServer, tmp_path: Path, name: str
) -> None:
    rows = [build_row(1) | {"run_at": None, name: "2020-01-01 09:00"}, build_row(2)]
    file = write(tmp_path, "pins.json", json.dumps(rows).encode())
    assert "has passed: row 1" in run(server, file, "--timezone", "Europe/Berlin").stderr
    assert "has passed" not in run(server, file).stderr  # without a zone the row fails


# Results


def existing(state: str, **fields: Any) -> Callable[[int, JsonRow], JsonRow]:
    return lambda number, row: (
        create_result(number, row)
        | {
            "status": "existing",
            "existing_state": state,
            "payload_matches": True,
            **fields,
        }
    )


def test_existing_rows_that_will_not_be_published_are_exit_code_1(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.judge = existing("canceled")
    message = "Rows exist already, but nothing will be published for them."
    server.warnings = [
        {"code": "existing_not_published", "message": message, "row_numbers": [1, 2]}
    ]
    result = run(server, write_csv(tmp_path, 2))
    assert result.exit_code == ExitCode.ROWS_FAILED
    assert "The existing rows are: 2 canceled." in result.stdout
    assert f"Warning: {message} (rows 1-2)" in result.stdout
    assert "lamp-2           canceled" in result.stdout
    server.judge, server.warnings = existing("published"), []
    result = run(server, write_csv(tmp_path, 2))
    assert result.exit_code == ExitCode.DONE
    assert "The existing rows are: 2 published." in result.stdout
    assert "lamp-2" not in result.stdout


def test_existing_rows_show_what_differs(server: PinflowServer, tmp_path: Path) -> None:
    same = "The same beginning of a long text about lamps, which "
    differences = [
        {"field": "title", "stored": "Lamp", "sent": "Lampe"},
        {
            "field": "description",
            "stored": f"{same}ends",
            "sent": f"{same}goes on",
        },
        {"field": "link_url", "stored": None, "sent": "https://" + "x" * 60},
    ]
    server.judge = existing("scheduled", payload_matches=False, differing_fields=differences)
    result = run(server, write_csv(tmp_path, 1))
    words = " ".join(result.stdout.split())
    assert "title: stored 'Lamp', sent 'Lampe'" in words
    assert "description: stored '… about lamps, which ends', sent '… about lamps, which" in words
    assert f"link_url: stored nothing, sent 'https://{'x' * 32}…'" in words


def test_values_that_the_key_may_not_see_do_not_look_empty(
    server: PinflowServer, tmp_path: Path
) -> None:
    hidden = [{"field": "title", "stored": None, "sent": None}]
    server.judge = existing("scheduled", payload_matches=False, differing_fields=hidden)
    words = " ".join(run(server, write_csv(tmp_path, 1)).stdout.split())
    assert "title (its values are hidden from this API key)" in words


def test_updated_rows_are_named_and_differ_no_more(server: PinflowServer, tmp_path: Path) -> None:
    server.judge = existing("scheduled", updated=True)
    result = run(server, write_csv(tmp_path, 2), "--on-existing", "update")
    assert result.exit_code == ExitCode.DONE
    assert "2 existing rows took the content of this import: rows 1-2." in result.stdout


# Failed rows


def serve_failed_rows(server: PinflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the server write failed.csv with the failed rows, as Pinflow does."""
    answer = server.answer

    def answer_file(request: Request) -> Answer | None:
        path, _, name = request.path.rpartition("/")
        if name != "failed.csv":
            return answer(request)
        (received,) = (part for part in server.imports if path.endswith(part.job_id))
        results = [server.judge(number, row) for number, row in enumerate(received.rows, 1)]
        rows = [
            RowWithResult(list(row.values()), [str(number + 1), "failed", "", "", "code", "why"])
            for number, (row, result) in enumerate(zip(received.rows, results, strict=True), 1)
            if result["status"] == "failed"
        ]
        return Answer(200, b"".join(write_results(list(received.rows[0]), ",", rows)))

    monkeypatch.setattr(server, "answer", answer_file)


def test_failed_rows_are_written_with_the_next_step(
    server: PinflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_failed_rows(server, monkeypatch)
    server.judge = fail_rows("lamp-2")
    failed = tmp_path / "failed rows.csv"
    options = ("--failed", str(failed), "--timezone", "Europe/Berlin")
    result = run(server, write_csv(tmp_path, 3), *options)
    assert result.exit_code == ExitCode.ROWS_FAILED
    (row,) = read_rows(failed.read_bytes())
    assert (row["idempotency_key"], row["line"], row["error_message"]) == ("lamp-2", "3", "why")
    assert f"pinflow import '{failed}' --timezone Europe/Berlin" in result.stderr
    assert "pinflow imports results" not in result.stdout
    requests = len(server.requests)
    again = run(server, write_csv(tmp_path, 3), *options)
    assert (again.exit_code, len(server.requests)) == (ExitCode.REFUSED, requests)
    assert "exists and may have your corrections" in again.stderr


def test_failed_rows_of_a_long_file_are_one_file_with_the_lines_of_the_file(
    server: PinflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_failed_rows(server, monkeypatch)
    server.judge = fail_rows("lamp-3", "lamp-1002", "lamp-1004")
    rows = [build_row(number) for number in range(1, 1005)]
    rows[0]["title"] = "'=1+1\nin two lines"
    rows[2]["title"] = "'=1+1"
    file = write(tmp_path, "pins.csv", encode_csv(rows))
    failed = tmp_path / "failed.csv"
    result = run(server, file, "--failed", str(failed))
    assert result.exit_code == ExitCode.ROWS_FAILED
    written = read_rows(failed.read_bytes())
    assert [(row["idempotency_key"], row["line"]) for row in written] == [
        ("lamp-3", "5"),
        ("lamp-1002", "1004"),
        ("lamp-1004", "1006"),
    ]
    assert written[0]["title"] == "''=1+1"
    assert "Wrote 3 failed rows" in result.stderr


def test_an_import_whose_failed_rows_cannot_be_written_has_ended_nevertheless(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.judge = fail_rows("lamp-2")
    failed = tmp_path / "failed.csv"
    result = run(server, write_csv(tmp_path, 3), "--failed", str(failed))
    assert result.exit_code == ExitCode.ROWS_FAILED
    assert "1 failed" in result.stdout
    assert "The import has ended nevertheless." in result.stderr
    assert not failed.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--failed", "x.csv", "--no-wait"), "Leave one of them out"),
        (("--failed", "-"), "standard output has the report"),
        (("--failed", "missing/x.csv"), "The directory of missing/x.csv does not exist"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    server: PinflowServer, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = run(server, write_csv(tmp_path, 1), *options)
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert message in result.stderr


# Formats


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("pins.xlsx", b"PK\x03\x04rest [Content_Types].xml", "Excel workbook"),
        ("pins.csv", b"PK\x03\x04rest [Content_Types].xml", "Excel workbook"),
        ("pins.json", b"%PDF-1.7", "a PDF"),
        ("pins.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "workbook"),
        ("pins.json", encode_csv([build_row(1)]), "content is CSV"),
        ("pins.json", b"sep=;\r\nMedia URL;Title;\r\n", "content is CSV"),
        ("pins.csv", b'\xef\xbb\xbf [\n{"title": "x"}]', "content is JSON"),
        ("pins.csv", '{"rows": []}'.encode("utf-16"), "content is JSON"),
        ("pins.txt", b"[]", "--format"),
    ],
)
def test_a_file_of_the_wrong_format_is_named_as_what_it_is(
    server: PinflowServer, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    result = run(server, write(tmp_path, name, data))
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert message in result.stderr
    assert name in result.stderr


def test_a_chosen_format_is_not_questioned(server: PinflowServer, tmp_path: Path) -> None:
    file = write(tmp_path, "pins.json", encode_csv([build_row(1)]))
    assert run(server, file, "--format", "csv").exit_code == ExitCode.DONE
    refused = run(server, file, "--format", "json")
    assert (refused.exit_code, "invalid_json" in refused.stderr) == (ExitCode.REFUSED, True)


def test_the_format_of_standard_input_is_recognized(server: PinflowServer) -> None:
    assert run(server, "-", input=encode_csv([build_row(1)])).exit_code == ExitCode.DONE
    assert run(server, "-", input=json.dumps([build_row(1)])).exit_code == ExitCode.DONE
    assert [received.filename for received in server.imports] == ["stdin.csv", None]
    assert "--format" in run(server, "-", input="hello").stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"[{'{},' * 600}7]", "Row 601 is not an object"),
        ("[{}", "(invalid_json)"),
        ("[NaN]", "(invalid_json)"),
    ],
)
def test_a_json_file_that_no_import_can_have_is_refused_before_anything_is_sent(
    server: PinflowServer, tmp_path: Path, rows: str, message: str
) -> None:
    result = run(server, write(tmp_path, "pins.json", rows.encode()))
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert message in result.stderr


def test_an_encoding_is_only_for_csv(server: PinflowServer, tmp_path: Path) -> None:
    result = run(server, write(tmp_path, "pins.json", b"[]"), "--encoding", "latin1")
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert "--encoding is for CSV" in result.stderr


def test_the_rows_that_the_server_reads_are_the_ones_written() -> None:
    rows = [build_row(1, title='"a",\r\nb;\t')]
    assert read_rows(encode_csv(rows)) == rows


def test_errors_and_warnings_name_the_options_of_the_command(
    server: PinflowServer, tmp_path: Path
) -> None:
    no_board = (
        "board_id: no board Bord on this account. See its boards: GET "
        "/v1/pinterest/boards?account_id=0b7f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01, or pinflow template."
    )

    def judge(number: int, row: JsonRow) -> JsonRow:
        return create_result(number, row) | {"status": "failed", "error_message": no_board}

    server.judge = judge
    server.warnings = [
        {"code": "unknown_fields", "message": "Ignored. With strict=true, the row fails."}
    ]
    file = write(tmp_path, "pins.csv", encode_csv([build_row(1)]))
    result = run(server, file)
    assert "Warning: Ignored. With --strict, the row fails." in result.stdout
    assert "no board Bord on this account. See its boards: pinflow template." in result.stdout
    assert "GET /v1" not in result.stdout
    server.overrides = [
        refuse(
            422, "invalid_parameter", "No. See: GET /v1/pinterest/accounts, or pinflow template."
        )
    ]
    assert run(server, file).stderr.endswith("No. See: pinflow template. (invalid_parameter)\n")


def test_the_image_of_the_template_is_called_an_example(
    server: PinflowServer, tmp_path: Path
) -> None:
    def judge(number: int, row: JsonRow) -> JsonRow:
        fault = {
            "code": "url_parsing",
            "field": "image_url",
            "message": "must be a URL",
            "value": row["image_url"],
        }
        return create_result(number, row) | {"status": "failed", "errors": [fault]}

    server.judge = judge
    rows = [build_row(1, image_url=PLACEHOLDER), build_row(2, image_url="x")]
    result = run(server, write(tmp_path, "pins.csv", encode_csv(rows)))
    assert "image_url: this is the example of pinflow template. Replace it" in result.stdout
    assert "image_url: must be a URL" in result.stdout


def test_a_command_without_a_key_says_how_to_give_it_one(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.overrides = [refuse(401, "unauthorized", "Send one in the header X-API-Key.")] * 2
    file = write(tmp_path, "pins.csv", encode_csv([build_row(1)]))
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": ""}
    result = CliRunner().invoke(app, ["import", file], env=variables)
    assert result.exit_code == ExitCode.REFUSED
    assert "The command has no API key. Set PINFLOW_API_KEY, or give --api-key" in result.stderr
    assert "X-API-Key" not in result.stderr
    assert "X-API-Key. (unauthorized) Set PINFLOW_API_KEY, or give" in run(server, file).stderr
