"""The example docs/examples/webhook_receiver.py explains why it can't start."""

import socket
import subprocess
import sys

from deploy.local.layout import CHECKOUT


def test_the_example_receiver_explains_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        started = subprocess.run(
            [
                sys.executable,
                CHECKOUT / "docs/examples/webhook_receiver.py",
                *("--secret", "sixteen characters", "--port", port, "--seconds", "1"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert started.returncode == 1
    assert f"Can't listen on port {port}" in started.stderr
    assert "--port" in started.stderr
    assert "Traceback" not in started.stderr
