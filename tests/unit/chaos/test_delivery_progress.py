"""A run of deliveries under faults says how far it is, and why a program ended by itself."""

import sys
from pathlib import Path

from deploy.local.programs import Program
from tests.support.processes import RunningProgram
from tests.tools.chaos.arena import describe_death
from tests.tools.chaos.deliveries.progress import describe_progress


def test_the_progress_counts_ended_pins_and_faults() -> None:
    line = describe_progress(61.4, (350, 1800), 2000, faults=12)
    assert line == "      61 s  350/2000 pins ended, 1800 stored, 12 faults so far"


def test_the_progress_goes_on_while_postgres_does_not_answer() -> None:
    line = describe_progress(90, None, 2000, faults=13)
    assert line == "      90 s  Postgres does not answer, 13 faults so far"


def test_a_program_that_ended_by_itself_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    script = "[print(f'line {number}') for number in range(40)]; raise SystemExit(3)"
    program = RunningProgram(Program("delivery", (sys.executable, "-c", script), {}), tmp_path)
    program.start()
    program.process.wait(30)
    description = describe_death(program)
    assert "delivery ended by itself, with exit code 3. Its log ends:" in description
    assert description.splitlines()[1:] == [f"line {number}" for number in range(10, 40)]
