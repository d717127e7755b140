"""A pin's model that refuses unknown fields, so that a test notices a field that was lost."""

from pydantic import ConfigDict

from shared.contract.pins import PinSubmission


class StrictPinSubmission(PinSubmission):
    """A PinSubmission in which an unknown field is a fault."""

    model_config = ConfigDict(extra="forbid")
