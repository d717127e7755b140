"""Runs a service with a wrong clock: python -m tests.tools.chaos.skewed_clock SERVICE.

The clock is off by CHAOS_CLOCK_OFFSET seconds. Only time.time and datetime.now change, which the
services read. Monotonic clocks stay correct.
"""

import importlib
import os
import runpy
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

OFFSET_VARIABLE = "CHAOS_CLOCK_OFFSET"
PRODUCT_MODULES = ("services.", "shared.")


def skew(seconds: float) -> None:
    """Replaces `datetime` in all imported modules of Pinflow, and time.time.

    The class `datetime` itself stays, because C code compares types by identity.
    """
    true_time = time.time
    offset = timedelta(seconds=seconds)

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, datetime)

    class Skewed(datetime, metaclass=AnyDatetime):
        def __new__(cls, *values: Any, **named: Any) -> Any:
            # fromisoformat and the like would give instances of this class, which msgspec rejects
            return datetime(*values, **named)  # noqa: DTZ001 - tzinfo is among the values

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + offset

    time.time = lambda: true_time() + seconds
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCT_MODULES) and getattr(module, "datetime", None) is datetime:
            module.datetime = Skewed  # type: ignore[attr-defined]


if __name__ == "__main__":
    service = f"services.{sys.argv[1]}"
    importlib.import_module(f"{service}.app")
    skew(float(os.environ[OFFSET_VARIABLE]))
    runpy.run_module(service, run_name="__main__", alter_sys=True)
