"""Checks the bodies of requests about pins and media: what the description says, and more.

The description requires neither a board nor a medium, and no cover for a video. Pinterest does.
"""

import base64
import binascii
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from deploy.simulator.errors import (
    FETCH_FAILED,
    IMAGE_BROKEN,
    IMAGE_SMALL,
    RefusedCall,
    invalid,
    refuse,
    restricted,
)

MAX_IMAGE_BYTES = 20 * 1024 * 1024
REFUSED_IMAGES = {"unreachable": FETCH_FAILED, "too-small": IMAGE_SMALL, "broken": IMAGE_BROKEN}
"""The answers to an image of a URL, by its file's name without the suffix. No image is fetched."""
IMAGE_SIGNATURES = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}

# [0-9]: \d of pydantic's engine matches every script's digits
Digits = Annotated[str, Field(pattern=r"^[0-9]+$")]
ContentType = Literal["image/jpeg", "image/png"]
Base64 = Annotated[str, Field(pattern=r"^[a-zA-Z0-9+/=]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class ImageUrl(_Model):
    source_type: Literal["image_url"]
    url: str
    is_standard: bool = True


class ImageBase64(_Model):
    source_type: Literal["image_base64"]
    content_type: ContentType
    data: Base64
    is_standard: bool = True


class _CarouselItem(_Model):
    title: str = ""
    description: str = ""
    link: str = ""


class ImageUrlItem(_CarouselItem):
    url: str


class ImageBase64Item(_CarouselItem):
    content_type: ContentType
    data: Base64


class ImageUrls(_Model):
    source_type: Literal["multiple_image_urls"]
    items: Annotated[list[ImageUrlItem], Field(min_length=2, max_length=5)]
    index: Annotated[int, Field(ge=0)] = 0


class ImagesBase64(_Model):
    source_type: Literal["multiple_image_base64"]
    items: Annotated[list[ImageBase64Item], Field(min_length=2, max_length=5)]
    index: Annotated[int, Field(ge=0)] = 0


class VideoId(_Model):
    source_type: Literal["video_id"]
    media_id: Digits
    cover_image_url: str = ""
    cover_image_content_type: ContentType = "image/jpeg"
    cover_image_data: str = ""
    cover_image_key_frame_time: Annotated[int, Field(ge=0)] = 0
    is_standard: bool = True


class PinUrl(_Model):
    source_type: Literal["pin_url"]
    is_affiliate_link: bool = False


MediaSource = Annotated[
    ImageUrl | ImageBase64 | ImageUrls | ImagesBase64 | VideoId | PinUrl,
    Field(discriminator="source_type"),
]


class _Texts(_Model):
    title: Annotated[str, Field(max_length=100)] | None = None
    description: Annotated[str, Field(max_length=800)] | None = None
    alt_text: Annotated[str, Field(max_length=500)] | None = None
    link: Annotated[str, Field(max_length=2048)] | None = None
    board_section_id: Digits | None = None


class PinCreate(_Texts):
    board_id: Digits
    media_source: MediaSource
    dominant_color: str | None = None
    parent_pin_id: Digits | None = None
    sponsor_id: Digits | None = None


class CarouselSlot(_Model):
    title: str = ""
    description: str = ""
    link: str = ""


class PinChanges(_Texts):
    board_id: Digits = ""
    carousel_slots: list[CarouselSlot] = []


class MediaCreate(_Model):
    media_type: Literal["video"]


ModelT = TypeVar("ModelT", bound=_Model)


def parse_pin(document: object) -> PinCreate:
    """Raises RefusedCall for a pin that Pinterest would refuse without looking anything up."""
    pin = _parse(PinCreate, document)
    source = pin.media_source
    if pin.link:
        _require_web_address("link", pin.link)
    match source:
        case PinUrl():
            raise restricted("pins of a product page")
        case VideoId():
            _require_cover(source)
        case ImageUrl():
            _require_web_address("url", source.url)
            _require_good_image(source.url)
        case ImageBase64():
            _require_image(source.content_type, source.data)
        case ImageUrls():
            for item in source.items:
                _require_web_address("url", item.url)
        case ImagesBase64():
            for image in source.items:
                _require_image(image.content_type, image.data)
    return pin


def parse_update(document: object) -> dict[str, Any]:
    """Returns the fields that the request names. Raises RefusedCall."""
    update = _parse(PinChanges, document)
    if update.link:
        _require_web_address("link", update.link)
    return update.model_dump(exclude_unset=True, exclude={"carousel_slots"})


def parse_media(document: object) -> MediaCreate:
    return _parse(MediaCreate, document)


def _parse(model: type[ModelT], document: object) -> ModelT:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(_describe(error.errors()[0])) from None


def _describe(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return f"{str(error['input'])[:100]!r} does not match {error['ctx']['pattern']!r}"
    path = ".".join(map(str, error["loc"])) or "the body"
    return f"{path}: {error['msg']}"


def _require_cover(source: VideoId) -> None:
    given = source.model_fields_set
    if "cover_image_data" in given:
        if "cover_image_content_type" not in given:
            raise invalid("cover_image_content_type is missing")
        _require_image(source.cover_image_content_type, source.cover_image_data)
    elif "cover_image_url" in given:
        _require_web_address("cover_image_url", source.cover_image_url)
    elif "cover_image_key_frame_time" not in given:
        raise invalid("a video needs a cover image")


def _require_web_address(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_web_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_web_address = False
    if not is_web_address:
        raise RefusedCall(400, 1, f"Invalid URL: {name}.")


def _require_good_image(url: str) -> None:
    name = urlsplit(url).path.rpartition("/")[2].partition(".")[0]
    if error := REFUSED_IMAGES.get(name):
        raise refuse(error)


def _require_image(content_type: str, data: str) -> None:
    try:
        image = base64.b64decode(data, validate=True)
    except binascii.Error:
        raise invalid("the image is not base64") from None
    if len(image) > MAX_IMAGE_BYTES:
        raise invalid("the image has more than 20 MB")
    if not image.startswith(IMAGE_SIGNATURES[content_type]):
        raise refuse(IMAGE_BROKEN)
