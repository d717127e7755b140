"""Readiness as the result of several checks."""

import pytest

from shared.http.health import Check, Health


def checking(problem: str | None) -> Check:
    async def check() -> str | None:
        return problem

    return check


@pytest.mark.parametrize(
    ("required", "optional", "expected"),
    [
        (None, None, (True, "ok")),
        (None, "no answer", (True, "degraded")),
        ("no answer", None, (False, "unavailable")),
        ("no answer", "no answer", (False, "unavailable")),
    ],
)
async def test_only_a_required_check_makes_the_process_unready(
    required: str | None, optional: str | None, expected: tuple[bool, str]
) -> None:
    health = Health()
    health.add("required", checking(required))
    health.add("optional", checking(optional), required=False)
    report = await health.report()
    assert (report.is_ready, report.status) == expected
    assert report.checks == {"required": required or "ok", "optional": optional or "ok"}
