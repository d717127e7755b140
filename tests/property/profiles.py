"""How hard the property tests look: the same small sample each time in `make test`, a long random
one in `make fuzz`.
"""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

FUZZING = "PINFLOW_FUZZING"
"""Set by tests/property/__main__.py."""
MORE = 8
"""Times as many examples when fuzzing, in one round."""

# Hypothesis keeps tables of characters and constants there, even without a database of examples.
# Not into the checkout
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
    """`count` examples, or many times as many of another seed when fuzzing."""
    if os.environ.get(FUZZING):
        return settings(_LONG, max_examples=count * MORE)
    # Making a failure small takes minutes where Postgres takes part; whoever wants that runs `make
    # fuzz`
    return settings(_SMALL, max_examples=count, phases=[Phase.explicit, Phase.generate])
