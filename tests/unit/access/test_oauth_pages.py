"""The callback's page has no scripts and escapes everything; its redirect goes to the setting."""

import base64
import hashlib
import re

import pytest

from services.access.oauth.pages import PAGE_HEADERS, build_page, build_return_url

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> $title ${style}"


def test_the_message_is_escaped() -> None:
    page = build_page(is_connected=False, message=ATTACK)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&gt;" in page
    assert "$title ${style}" in page


def test_the_policy_allows_only_the_pages_own_style() -> None:
    policy = PAGE_HEADERS["Content-Security-Policy"]
    (style,) = re.findall("<style>(.*?)</style>", build_page(is_connected=True, message=""))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "script-src" not in policy
    assert PAGE_HEADERS["Referrer-Policy"] == "no-referrer"
    assert PAGE_HEADERS["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example/done", "https://shop.example/done?status=failed&code=a%26b%0D%0Ac"),
        (
            "https://shop.example/?tab=accounts&x=#top",
            "https://shop.example/?tab=accounts&x=&status=failed&code=a%26b%0D%0Ac#top",
        ),
    ],
)
def test_parameters_are_added_to_the_return_url(url: str, expected: str) -> None:
    assert build_return_url(url, {"status": "failed", "code": "a&b\r\nc"}) == expected
