"""Receives webhooks on this machine, checks their signatures and prints one line for each.

Needs nothing but Python: `python webhook_receiver.py --secret 'the secret of the webhook'`.
"""

import argparse
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar


class Receiver(BaseHTTPRequestHandler):
    secret = b""
    bodies: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Over the bytes as they came: parsing and writing JSON again could change them
        expected = hmac.new(self.secret, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, self.headers.get("X-PinBridge-Signature", "")):
            self.answer(401)
            print("refused: wrong signature", flush=True)
            return
        self.answer(204)  # first answer, then work: Pinflow waits 10 seconds
        event = json.loads(body)
        print("signature ok:", event["type"], json.dumps(event["data"]), flush=True)
        self.bodies.append(body.decode())

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keeps the output to one line for each delivery."""


def open_server(port: int) -> HTTPServer:
    try:
        return HTTPServer(("127.0.0.1", port), Receiver)
    except (OSError, OverflowError) as error:
        sys.exit(
            f"Can't listen on port {port} of this machine: {error}. Stop the program that uses it, "
            "or choose another port with --port and set it in the webhook's url, too."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--until", help="stop after a delivery that contains this text")
    parser.add_argument("--seconds", type=float, default=60, help="give up after this time")
    arguments = parser.parse_args()
    Receiver.secret = arguments.secret.encode()
    deadline = time.monotonic() + arguments.seconds
    with open_server(arguments.port) as server:
        server.timeout = 0.2
        while not (arguments.until and any(arguments.until in body for body in Receiver.bodies)):
            if time.monotonic() > deadline:
                sys.exit(f"Nothing more within {arguments.seconds:g} seconds.")
            server.handle_request()


if __name__ == "__main__":
    main()
