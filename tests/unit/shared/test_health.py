"""Whether a process is ready, by what its checks say."""

import pytest

from shared.http.health import Check, Health


def saying(trouble: str | None) -> Check:
    async def check() -> str | None:
        return trouble

    return check


@pytest.mark.parametrize(
    ("needed", "wanted", "expected"),
    [
        (None, None, (True, "ok")),
        (None, "no answer", (True, "degraded")),
        ("no answer", None, (False, "unavailable")),
        ("no answer", "no answer", (False, "unavailable")),
    ],
)
async def test_only_a_required_check_makes_the_process_unready(
    needed: str | None, wanted: str | None, expected: tuple[bool, str]
) -> None:
    health = Health()
    health.add("needed", saying(needed))
    health.add("wanted", saying(wanted), required=False)
    report = await health.report()
    assert (report.is_ready, report.status) == expected
    assert report.checks == {"needed": needed or "ok", "wanted": wanted or "ok"}
