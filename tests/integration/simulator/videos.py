"""Uploads videos to the simulator, as an app does."""

from collections.abc import Mapping
from typing import Any

import httpx

from tests.support.simulator import Simulator


def register_video(simulator: Simulator, token: str) -> dict[str, Any]:
    """Returns the answer of POST /media."""
    answer = simulator.call("POST", "/media", token, json={"media_type": "video"})
    return dict(answer.raise_for_status().json())


def upload_video(
    simulator: Simulator,
    upload: Mapping[str, Any],
    content: bytes = b"video",
    changes: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Posts the file without a token. `changes` replace upload parameters."""
    parameters = {**upload["upload_parameters"], **(changes or {})}
    return simulator.http.post(upload["upload_url"], data=parameters, files={"file": content})


def create_video(simulator: Simulator, token: str) -> str:
    """Registers and uploads a video, and returns its id."""
    upload = register_video(simulator, token)
    upload_video(simulator, upload).raise_for_status()
    return str(upload["media_id"])
