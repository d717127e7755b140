"""Output of `pinflow topics create`: created topics, and remarks on the others."""

import pytest
from typer.testing import CliRunner

from deploy import topics
from deploy.cli.main import app
from deploy.topics import TopicCreation
from shared.kafka.admin import CreatedTopics
from shared.runtime.settings import KafkaSettings


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        (
            TopicCreation(CreatedTopics(["outcomes", "imports"], {}), []),
            ["Created: outcomes, imports"],
        ),
        (
            TopicCreation(
                CreatedTopics([], {"pinflow.outcomes.v1": (6, 12), "pinflow.imports.v2": (7, 12)}),
                [],
            ),
            [
                "All topics exist.",
                "pinflow.imports.v2 has 7 partitions, not 12 as",
                "pinflow.outcomes.v1 has 6 partitions, not 12 as",
            ],
        ),
        (
            TopicCreation(CreatedTopics([], {"pinflow.dead-letters.v1": (6, 3)}), []),
            [
                "All topics exist.",
                "pinflow.dead-letters.v1 has 6 partitions, not 3 as `pinflow topics create` gives",
            ],
        ),
        (
            TopicCreation(CreatedTopics(["imports"], {}), ["pinflow.imports.v1"]),
            [
                "Created: imports",
                "pinflow.imports.v1 is drained and no longer used. You can delete it.",
            ],
        ),
    ],
)
def test_created_topics_and_remarks_are_printed(
    monkeypatch: pytest.MonkeyPatch, created: TopicCreation, expected: list[str]
) -> None:
    async def create(_settings: KafkaSettings) -> TopicCreation:
        return created

    monkeypatch.setattr(topics, "create_topics", create)
    result = CliRunner().invoke(app, ["topics", "create"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == len(expected)
    assert all(
        line.startswith(beginning) for line, beginning in zip(lines, expected, strict=True)
    ), lines
