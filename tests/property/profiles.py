"""Numbers of examples: a small fixed sample in `make test`, a large random one in `make fuzz`."""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

FUZZING = "PINFLOW_FUZZING"
"""Environment variable that tests/property/__main__.py sets."""
FUZZING_FACTOR = 8
"""Multiplies the examples of one round when fuzzing."""

# Hypothesis stores tables of characters and constants in this folder, even without a database of
# examples. By default it would add a folder .hypothesis to the checkout
set_hypothesis_home_dir(Path(__file__).parents[2] / ".pytest_cache" / "hypothesis")

_SMALL = settings(
    database=None,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    stateful_step_count=20,
)
_LONG = settings(_SMALL, derandomize=False, stateful_step_count=40)


def examples(count: int) -> settings:
    """Returns settings for `count` examples, or for many more with a random seed when fuzzing."""
    if os.environ.get(FUZZING):
        return settings(_LONG, max_examples=count * FUZZING_FACTOR)
    # Without shrinking, which takes minutes for tests with Postgres. `make fuzz` shrinks
    return settings(_SMALL, max_examples=count, phases=[Phase.explicit, Phase.generate])
