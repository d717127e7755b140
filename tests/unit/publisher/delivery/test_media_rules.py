"""Tests what a URL and a file are, and how a video goes from step to step."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from services.publisher.delivery.media.multipart import build_form_frame
from services.publisher.delivery.media.rules import (
    MAX_REGISTRATIONS,
    MAX_STATUS_READS,
    MAX_WAIT_SECONDS,
    compute_wait_seconds,
    find_image_type,
    is_fetched_by_pinterest,
    reject_assets,
    require_video,
)
from services.publisher.delivery.media.video import (
    MAX_INTERRUPTED_UPLOADS,
    Video,
    VideoStep,
    record_registration,
    record_status,
    record_unreachable,
    register_anew,
    retry_upload,
)
from services.publisher.delivery.media.video_calls import judge_refusal
from services.publisher.delivery.media_failures import MediaRejected, MediaUnreachable
from shared.contract.delivery_advice import is_video
from shared.contract.errors import ErrorCode
from shared.pinterest.failures import Cause, Refused

GOOD_ANSWER = {
    "media_id": "12",
    "upload_url": "https://uploads.example/",
    "upload_parameters": {"key": "uploads/12"},
}


def video(**fields: Any) -> Video:
    known: dict[str, Any] = {
        "pin_id": uuid4(),
        "workspace_id": uuid4(),
        "account_id": uuid4(),
        "source_url": "https://videos.example/lamp.mp4",
        "step": VideoStep.PROCESS,
        "media_id": "12",
        "upload_url": None,
        "upload_parameters": None,
        "registrations": 1,
        "tries": 0,
        "looks": 0,
    }
    return Video(**{**known, **fields})


@pytest.mark.parametrize(
    "url",
    [
        "https://videos.example/lamp.mp4",
        "https://videos.example/a/LAMP.MOV?size=2#x",
        "http://videos.example/lamp.m4v",
    ],
)
def test_a_url_whose_path_ends_as_a_video_is_one(url: str) -> None:
    assert is_video(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.example/lamp.png",
        "https://pictures.example/?file=lamp.mp4",
        "https://pictures.example/lamp.mp4/cover.png",
        "https://mp4",
        "https://[broken/lamp.mp4",
    ],
)
def test_other_urls_are_images(url: str) -> None:
    assert not is_video(url)


def test_the_bytes_of_a_file_tell_its_type() -> None:
    assert find_image_type(b"\x89PNG\r\n\x1a\nrest") == "image/png"
    assert find_image_type(b"\xff\xd8\xff\xe0rest") == "image/jpeg"
    assert find_image_type(b"<html>") is None
    for atom in (b"ftyp", b"moov", b"wide"):
        require_video(b"\x00\x00\x00\x18" + atom)
    with pytest.raises(MediaRejected):
        require_video(b"<html><body>")


@pytest.mark.parametrize("fields", [{"asset_id": uuid4()}, {"image_url": None}])
def test_a_pin_without_the_url_of_an_image_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(MediaRejected, match="Pinflow stores no assets"):
        reject_assets({"asset_id": None, "image_url": "https://a.example/b.png", **fields})


@pytest.mark.parametrize(
    ("asset_id", "url", "mode", "is_ready"),
    [
        (None, "https://cdn.example/1.jpg", "url", True),
        (None, "https://cdn.example/1.jpg", "upload", False),
        (None, "https://cdn.example/1.mp4", "url", False),
        ("asset", None, "url", False),
        (None, "", "url", False),
    ],
)
def test_an_attempt_begins_at_once_only_if_pinterest_fetches_the_image(
    asset_id: str | None, url: str | None, mode: str, is_ready: bool
) -> None:
    pin = {"asset_id": asset_id, "image_url": url}
    assert is_fetched_by_pinterest(pin, mode) is is_ready


def test_waits_grow_from_five_seconds_to_ten_minutes() -> None:
    waits = [compute_wait_seconds(tries) for tries in range(40)]
    assert (waits[0], waits[-1]) == (5, MAX_WAIT_SECONDS)
    assert waits == sorted(waits)


def test_a_registration_leads_to_the_upload() -> None:
    change = record_registration(video(step=VideoStep.REGISTER, media_id=None), GOOD_ANSWER)
    assert change.values["step"] is VideoStep.UPLOAD
    assert change.values["registrations"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        {**GOOD_ANSWER, "upload_url": None},
        {**GOOD_ANSWER, "upload_url": "file:///etc/passwd"},
        {**GOOD_ANSWER, "upload_url": "https://uploads.example/" + "x" * 9000},
        {**GOOD_ANSWER, "upload_parameters": ["key"]},
        {**GOOD_ANSWER, "upload_parameters": {"key": 1}},
        {"media_id": "12"},
    ],
)
def test_an_answer_without_an_upload_counts_as_a_registration(answer: dict[str, Any]) -> None:
    """Otherwise a changed answer of Pinterest would register the video without end."""
    first = record_registration(video(registrations=0), answer)
    assert (first.values["step"], first.values["registrations"]) == (VideoStep.REGISTER, 1)
    last = record_registration(video(registrations=MAX_REGISTRATIONS - 1), answer)
    assert last.values["step"] is VideoStep.FAILED


@pytest.mark.parametrize("status", ["registered", "processing", None, 5])
def test_a_video_that_is_not_ready_is_awaited_about_a_day(status: object) -> None:
    assert "step" not in record_status(video(), status).values
    overdue = record_status(video(looks=MAX_STATUS_READS - 1), status)
    assert overdue.values["step"] is VideoStep.REGISTER


def test_a_video_fails_after_its_last_registration() -> None:
    change = register_anew(video(registrations=MAX_REGISTRATIONS), "it failed")
    assert change.values["step"] is VideoStep.FAILED
    assert change.values["error_code"] is ErrorCode.MEDIA_REJECTED


def test_uploads_that_are_always_interrupted_get_another_url_and_never_fail_their_pin() -> None:
    taken = video(
        step=VideoStep.UPLOAD, media_id="5", registrations=MAX_REGISTRATIONS, upload_url="x"
    )
    again = retry_upload(taken)
    assert dict(again.values) == {"looks": 1}
    last = retry_upload(replace(taken, looks=MAX_INTERRUPTED_UPLOADS - 1))
    assert last.values["step"] == VideoStep.REGISTER
    assert (last.values["registrations"], last.values["looks"]) == (MAX_REGISTRATIONS - 1, 0)


def test_an_unreachable_source_fails_with_the_last_try() -> None:
    failure = MediaUnreachable("The video can't be fetched. Pinflow tries again later.")
    assert record_unreachable(video(tries=3), failure, 5).values == {"tries": 4}
    last = record_unreachable(video(tries=4), failure, 5)
    assert last.values["error_code"] is ErrorCode.MEDIA_UNREACHABLE
    assert "again later" not in last.values["error_message"]


@pytest.mark.parametrize(
    ("cause", "status", "step", "expected"),
    [
        (Cause.TOKEN, 401, VideoStep.REGISTER, None),
        (Cause.RATE_LIMIT, 429, VideoStep.PROCESS, None),
        (Cause.APP, 403, VideoStep.REGISTER, None),
        (Cause.NOT_FOUND, 404, VideoStep.PROCESS, VideoStep.REGISTER),
        (Cause.NOT_FOUND, 404, VideoStep.REGISTER, VideoStep.FAILED),
        (Cause.PERMISSION, 403, VideoStep.REGISTER, VideoStep.FAILED),
        (Cause.CONTENT, 400, VideoStep.REGISTER, VideoStep.FAILED),
    ],
)
def test_a_refusal_of_the_account_lets_the_video_wait_and_others_end_it(
    cause: Cause, status: int, step: VideoStep, expected: VideoStep | None
) -> None:
    refusal = Refused(
        "media/create", "No.", status=status, code=None, cause=cause, retry_after_seconds=90
    )
    change = judge_refusal(video(step=step), refusal)
    assert change.values.get("step") == expected
    if expected is None:
        assert change.wait_seconds == 90


def test_a_form_has_its_fields_before_its_file() -> None:
    frame = build_form_frame({"key": "a/1", 'x"\r\n': "2"}, boundary="line")
    assert frame.head == (
        b'--line\r\nContent-Disposition: form-data; name="key"\r\n\r\na/1\r\n'
        b'--line\r\nContent-Disposition: form-data; name="x%22%0D%0A"\r\n\r\n2\r\n'
        b'--line\r\nContent-Disposition: form-data; name="file"; filename="video.mp4"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    assert frame.tail == b"\r\n--line--\r\n"
    assert frame.compute_size(10) == len(frame.head) + 10 + len(frame.tail)
    assert build_form_frame({}).content_type != build_form_frame({}).content_type
