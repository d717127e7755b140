"""What operators are told of topics that differ from the setting."""

import pytest
from typer.testing import CliRunner

from deploy import topics
from deploy.cli.main import app
from shared.messaging.admin import Topics
from shared.settings import KafkaSettings


@pytest.mark.parametrize(
    ("created", "said"),
    [
        (Topics(["rows", "imports"], {}), ["Created: rows, imports"]),
        (
            Topics([], {"pinflow.rows.v1": (6, 12), "pinflow.imports.v1": (7, 12)}),
            ["All topics are there.", "pinflow.imports.v1 has 7 partitions, not 12 as", "pinflow.rows.v1 has 6 partitions, not 12 as"],
        ),
    ],
)
def test_what_was_made_and_what_was_left_is_said(monkeypatch: pytest.MonkeyPatch, created: Topics, said: list[str]) -> None:
    async def create(_settings: KafkaSettings) -> Topics:
        return created

    monkeypatch.setattr(topics, "create_topics", create)
    result = CliRunner().invoke(app, ["topics", "create"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(beginning) for line, beginning in zip(lines, said, strict=True)), lines
