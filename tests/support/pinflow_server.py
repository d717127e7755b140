"""A small HTTP server that answers like Pinflow, for tests of the command line."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

JsonRow = dict[str, Any]
IMPORTS = "/v1/pins/imports"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    document: object
    """Bytes are a file. Anything else is sent as JSON."""
    headers: Mapping[str, str] = {}


class ReceivedImport(NamedTuple):
    """An import that was accepted, as the client sent it."""

    job_id: str
    query: dict[str, str]
    filename: str | None
    data: bytes
    rows: list[JsonRow]
    key: str


def refuse(status: int, code: str, message: str, **details: Any) -> Answer:
    return Answer(status, {"detail": {"code": code, "message": message, **details}})


def create_result(number: int, row: JsonRow) -> JsonRow:
    return {
        "row_number": number,
        "status": "created",
        "pin_id": str(UUID(int=number)),
        "schedule_id": None,
        "idempotency_key": row.get("idempotency_key"),
        "error_code": None,
        "error_message": None,
        "errors": [],
        "payload_matches": None,
        "line": None,
        "existing_state": None,
        "differing_fields": None,
    }


@dataclass
class PinflowServer:
    """Accepts every import. Tests replace what it should answer otherwise."""

    limit_bytes: int = 5 * 1024 * 1024
    overrides: list[Answer | None] = field(default_factory=list)
    """Answers to the next submissions; None accepts."""
    lost: list[Answer | None] = field(default_factory=list)
    """Answers instead of those to the next accepted imports; None closes the connection."""
    judge: Callable[[int, JsonRow], JsonRow] = create_result
    warnings: Sequence[JsonRow] = ()
    lists: dict[str, list[JsonRow]] = field(default_factory=lambda: {"/v1/pins": []})
    """The items of each list, by its path."""
    documents: dict[str, object] = field(default_factory=dict)
    """Documents by path. Bytes are a file."""
    deletes: dict[str, Callable[[dict[str, str]], Answer]] = field(default_factory=dict)
    """Answers to a DELETE by path, made of its query."""
    patches: dict[str, Callable[[Any], object]] = field(default_factory=dict)
    """Answers to a PATCH by path, made of its document. They may be an Answer."""
    posts: dict[str, Callable[[Any], object]] = field(default_factory=dict)
    """Answers to a POST by path, made of its document. They may be an Answer."""
    requests: list[Request] = field(default_factory=list)
    imports: list[ReceivedImport] = field(default_factory=list)
    url: str = ""

    def answer(self, request: Request) -> Answer | None:
        """Returns the answer, or None to close the connection."""
        self.requests.append(request)
        if request.method == "POST" and request.path in (f"{IMPORTS}/json", f"{IMPORTS}/csv"):
            return self._submit(request)
        if request.method in ("POST", "PATCH"):
            answers = self.posts if request.method == "POST" else self.patches
            answer = answers[request.path](json.loads(request.body or b"null"))
            return answer if isinstance(answer, Answer) else Answer(200, answer)
        if request.method == "DELETE":
            return self.deletes[request.path](request.query)
        return self._read(request)

    def _read(self, request: Request) -> Answer:
        if request.path in self.lists:
            return self._list(request)
        if request.path in self.documents:
            return Answer(200, self.documents[request.path])
        for received in self.imports:
            if request.path == f"{IMPORTS}/{received.job_id}":
                return Answer(200, self._end(received))
        return refuse(404, "not_found", "Not found.")

    def _submit(self, request: Request) -> Answer | None:
        override = self.overrides.pop(0) if self.overrides else None
        if override is not None:
            return override
        if len(request.body) > self.limit_bytes:
            message = f"The body is larger than {self.limit_bytes} bytes. Send a smaller one."
            return refuse(413, "payload_too_large", message, limit_bytes=self.limit_bytes)
        is_csv = request.path.endswith("/csv")
        filename, data = read_form(request) if is_csv else (None, request.body)
        rows = read_rows(data) if is_csv else json.loads(data)
        key = request.headers["idempotency-key"]
        received = ReceivedImport("", request.query, filename, data, rows, key)
        if request.query.get("dry_run") == "true":
            return Answer(200, self._check(received))
        answer = self._accept(received)
        return self.lost.pop(0) if self.lost else answer

    def _accept(self, received: ReceivedImport) -> Answer:
        """Accepts an import, if it is the first one with its key."""
        job_id = str(UUID(int=len(self.imports) + 1, version=4))
        same = [earlier for earlier in self.imports if earlier.key == received.key]
        if not same:
            same = [received._replace(job_id=job_id)]
            self.imports += same
        counts = count_times(received.rows)
        job = self._describe(same[0], [])
        return Answer(202, {**job, **counts, "completed_at": None, "status": "queued"})

    def _check(self, received: ReceivedImport) -> JsonRow:
        results = self._judge(received)
        statuses = [result["status"] for result in results]
        return {
            "dry_run": True,
            "source_type": "json" if received.filename is None else "csv",
            "source_filename": received.filename,
            "total_rows": len(results),
            **{f"{name}_rows": statuses.count(name) for name in ("created", "existing", "failed")},
            **count_times(received.rows),
            "warnings": list(self.warnings),
            "results": results,
        }

    def _end(self, received: ReceivedImport) -> JsonRow:
        return self._describe(received, self._judge(received))

    def _judge(self, received: ReceivedImport) -> list[JsonRow]:
        return [self.judge(number, row) for number, row in enumerate(received.rows, 1)]

    def _describe(self, received: ReceivedImport, results: list[JsonRow]) -> JsonRow:
        statuses = [result["status"] for result in results]
        failed = statuses.count("failed")
        return {
            "id": received.job_id,
            "source_type": "json" if received.filename is None else "csv",
            "source_filename": received.filename,
            "status": "completed_with_errors" if failed else "completed",
            "total_rows": len(received.rows),
            "processed_rows": len(results),
            "created_rows": statuses.count("created"),
            "existing_rows": statuses.count("existing"),
            "failed_rows": failed,
            "results": results,
            "error_message": None,
            "warnings": list(self.warnings),
            "created_at": "2026-11-25T09:00:00.123456Z",
            "completed_at": "2026-11-25T09:00:01Z",
        }

    def _list(self, request: Request) -> Answer:
        items = self.lists[request.path]
        start, limit = int(request.query.get("cursor", 0)), int(request.query["limit"])
        headers = {} if start else {"X-Total-Count": str(len(items))}
        if start + limit < len(items):
            # An address that no client may follow with its key
            next_page = f"http://elsewhere.invalid{request.path}?cursor={start + limit}"
            headers["Link"] = f'<{next_page}>; rel="next"'
        return Answer(200, items[start : start + limit], headers)


def count_times(rows: Sequence[JsonRow]) -> dict[str, int]:
    later = sum(bool(row.get("run_at")) for row in rows)
    return {"publishing_now": len(rows) - later, "scheduled_for_later": later}


def read_form(request: Request) -> tuple[str | None, bytes]:
    """Reads the only part of a form: its file name and its bytes."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    (part,) = BytesParser(policy=HTTP).parsebytes(head + request.body).iter_parts()
    # The parser may change line ends. The part's bytes stand between the blank line and the end
    data = request.body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
    return part.get_filename(), data


def read_rows(data: bytes) -> list[JsonRow]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


@contextmanager
def running_server(
    kind: type[PinflowServer] = PinflowServer, **fields: Any
) -> Iterator[PinflowServer]:
    pinflow = kind(**fields)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            address = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(
                self.command, address.path, dict(parse_qsl(address.query)), headers, body
            )
            answer = pinflow.answer(request)
            if answer is None:
                self.close_connection = True
                return
            status, document, more_headers = answer
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**more_headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        pinflow.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield pinflow
        finally:
            server.shutdown()
            thread.join()
