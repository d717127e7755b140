"""Describes a ValidationError without the input.

The description goes to logs and to the headers of dead letters, which must never contain parts of a
payload.
"""

from pydantic import ValidationError

from shared.contract.fault_messages import describe_fault
from shared.contract.pins import make_printable

MAX_FAULTS = 10
MAX_MESSAGE = 200
MAX_DESCRIPTION = 500


def describe_validation_error(error: ValidationError) -> str:
    """Formats the first faults as `field: message; field: message`, in at most 500 characters.

    `str(error)` would repeat the input. The parts of a field's location are joined by dots. A fault
    of the whole document has no field.
    """
    faults = error.errors(include_input=False, include_url=False)[:MAX_FAULTS]
    descriptions = [
        ": ".join(
            filter(None, (".".join(map(str, fault["loc"])), describe_fault(fault)[:MAX_MESSAGE]))
        )
        for fault in faults
    ]
    return make_printable("; ".join(descriptions), MAX_DESCRIPTION)
