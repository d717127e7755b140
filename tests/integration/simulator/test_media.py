"""The simulator registers videos, takes their files and processes them."""

import pytest

from tests.integration.simulator.videos import create_video, register_video, upload_video
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def token(simulator: Simulator) -> str:
    return str(simulator.get_token()["access_token"])


@pytest.fixture(autouse=True)
def _no_faults(simulator: Simulator) -> None:
    simulator.control("POST", "faults", {"kind": "none"})


def status_of(simulator: Simulator, token: str, media_id: str) -> str:
    return str(simulator.call("GET", f"/media/{media_id}", token).json()["status"])


def test_a_video_is_registered_uploaded_and_processed(simulator: Simulator, token: str) -> None:
    upload = register_video(simulator, token)
    assert status_of(simulator, token, upload["media_id"]) == "registered"

    answer = upload_video(simulator, upload)
    assert (answer.status_code, answer.content) == (204, b"")
    assert status_of(simulator, token, upload["media_id"]) == "succeeded"


def test_the_processing_of_a_video_takes_as_long_as_a_fault_says(
    simulator: Simulator, token: str
) -> None:
    simulator.set_faults("slow_media", seconds=3600)
    slow = create_video(simulator, token)
    simulator.set_faults("slow_media", seconds=0)

    assert status_of(simulator, token, slow) == "processing"
    assert status_of(simulator, token, create_video(simulator, token)) == "succeeded"


def test_the_processing_of_a_video_fails_for_good(simulator: Simulator, token: str) -> None:
    simulator.set_faults("failed_media", count=1)
    failed = create_video(simulator, token)

    assert status_of(simulator, token, failed) == "failed"
    assert status_of(simulator, token, create_video(simulator, token)) == "succeeded"
    assert simulator.control("GET", "faults")["fired"]["failed_media"] == 1


def test_an_upload_needs_the_parameters_of_its_registration_and_a_file(
    simulator: Simulator, token: str
) -> None:
    upload = register_video(simulator, token)

    assert upload_video(simulator, upload, changes={"x-amz-signature": "wrong"}).status_code == 403
    assert upload_video(simulator, upload, changes={"key": "uploads/1"}).status_code == 403
    assert upload_video(simulator, upload, b"").status_code == 400
    assert status_of(simulator, token, upload["media_id"]) == "registered"


def test_media_are_listed_and_are_the_users_own(simulator: Simulator, token: str) -> None:
    media_id = create_video(simulator, token)
    other = simulator.get_token("tom")["access_token"]

    page = simulator.call("GET", "/media", token, params={"page_size": 250}).json()
    assert page["items"][-1] == {
        "media_id": media_id,
        "media_type": "video",
        "status": "succeeded",
    }
    assert simulator.call("GET", "/media", other).json()["items"] == []
    assert simulator.call("GET", f"/media/{media_id}", other).status_code == 404


def test_only_videos_are_uploaded(simulator: Simulator, token: str) -> None:
    answer = simulator.call("POST", "/media", token, json={"media_type": "image"})
    assert (answer.status_code, answer.json()["code"]) == (400, 1)
