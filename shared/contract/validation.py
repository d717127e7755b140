"""What a ValidationError says, without what was sent: fit for logs and dead letters, which must not
carry a payload.
"""

from pydantic import ValidationError

from shared.contract.pins import make_printable

MOST_FAULTS = 10
MAX_MESSAGE = 200
MAX_DESCRIPTION = 500


def describe_validation_error(error: ValidationError) -> str:
    """'field: message; field: message', at most 500 characters, of the first faults.

    `str(error)` would repeat the input. A field is named by its location, joined by dots; a fault
    of the whole has none.
    """
    faults = error.errors(include_input=False, include_url=False, include_context=False)[
        :MOST_FAULTS
    ]
    told = [
        ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"][:MAX_MESSAGE])))
        for fault in faults
    ]
    return make_printable("; ".join(told), MAX_DESCRIPTION)
