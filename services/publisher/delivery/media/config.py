"""Defines the settings for images and videos of pins."""

from typing import Annotated, Literal

from pydantic import Field

from shared.http.address_rules import AddressRules, PortRanges
from shared.pinterest.settings import PinterestApiSettings
from shared.runtime.settings import Addresses

MEBIBYTE = 1024 * 1024


class MediaSettings(PinterestApiSettings):
    pinterest_image_mode: Literal["url", "upload"] = "url"
    """`url`: Pinterest fetches an image from its URL. `upload`: Pinflow fetches it and sends it."""
    media_fetch_seconds: Annotated[float, Field(gt=0, le=60)] = 10
    """Timeout of fetching one image, if the mode of images is `upload`."""
    media_image_memory_bytes: Annotated[int, Field(ge=64 * MEBIBYTE)] = 128 * MEBIBYTE
    """Maximum memory for images that one process uploads at the same time. An image takes 2.7 times
    its size until Pinterest has answered: at most 54 MiB. Others wait."""
    media_videos_at_once: Annotated[int, Field(ge=1, le=100)] = 3
    """Videos that one process uploads at the same time. Each takes less than 1 MiB of memory, and
    up to 2 GB of the directory for temporary files if its source does not say how large it is. If
    there are several, one workspace uses all but one at most: its sources may be slow."""
    media_upload_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600
    """Timeout of uploading one video."""
    media_allowed_networks: Addresses = ""
    """Comma-separated networks of images and videos that Pinflow may fetch although they are not
    public, such as 10.1.0.0/16."""
    media_ports: PortRanges = "80,443,1024-65535"
    """Allowed ports of images and videos that Pinflow fetches."""

    @property
    def media_address_rules(self) -> AddressRules:
        return AddressRules.from_settings(
            variables="PINFLOW_MEDIA", allowed=self.media_allowed_networks, ports=self.media_ports
        )
