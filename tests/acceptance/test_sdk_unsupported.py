"""Operations of PinBridge that Pinflow does not support answer 501 and name an alternative.

They do so with and without a key.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pinbridge_sdk.errors import APIError

from services.status.unsupported import AREAS
from tests.contract.compatibility import SDK, UNSUPPORTED
from tests.support.deployment import Deployment
from tests.support.sdk import build_placeholders

LARGE = 20 * 1024 * 1024


async def test_unsupported_operations_raise_not_supported(
    sdk: Any, connect: Callable[..., Awaitable[Any]]
) -> None:
    sentences = {area.alternative for area in AREAS}
    without_key = await connect()
    methods = [name for name, operation in SDK.items() if operation in UNSUPPORTED]
    assert len(methods) >= len(UNSUPPORTED)
    for method in methods:
        group, _, name = method.partition(".")
        for client in (sdk, without_key):
            call = getattr(getattr(client, group), name)
            with pytest.raises(APIError) as refused:
                await call(**build_placeholders(call))
            assert (method, refused.value.status_code, refused.value.code) == (
                method,
                501,
                "not_supported",
            )
            assert any(refused.value.message.endswith(sentence) for sentence in sentences)


async def test_an_unsupported_large_upload_gets_its_answer(sdk: Any) -> None:
    with pytest.raises(APIError) as refused:
        await sdk.assets.upload_video(b"\0" * LARGE, filename="film.mp4")
    assert (refused.value.status_code, refused.value.code) == (501, "not_supported")


def test_another_method_on_an_unsupported_path_is_405(pinflow: Deployment) -> None:
    for path, allowed in (
        ("/v1/auth/profile", "GET, HEAD, PUT"),
        ("/v1/pinterest/terms/related", "GET, HEAD"),
    ):
        answer = httpx.delete(f"{pinflow.base_url}{path}", timeout=40, trust_env=False)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
