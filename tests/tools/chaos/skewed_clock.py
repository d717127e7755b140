"""python -m tests.tools.chaos.skewed_clock SERVICE: the service, run by a clock that is
CHAOS_CLOCK_OFFSET seconds off.

Only what services read is changed: time.time and datetime.now. Monotonic clocks go on as ever.
"""

import importlib
import os
import runpy
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

OFFSET_VARIABLE = "CHAOS_CLOCK_OFFSET"
OURS = ("services.", "shared.")


def skew(seconds: float) -> None:
    """In every module of ours that has been imported.

    Not the class itself: C code compares types by identity.
    """
    true_time = time.time
    offset = timedelta(seconds=seconds)

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, datetime)

    class Skewed(datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + offset

    time.time = lambda: true_time() + seconds
    for name, module in list(sys.modules.items()):
        if name.startswith(OURS) and getattr(module, "datetime", None) is datetime:
            module.datetime = Skewed  # type: ignore[attr-defined]


if __name__ == "__main__":
    service = f"services.{sys.argv[1]}"
    importlib.import_module(f"{service}.app")
    skew(float(os.environ[OFFSET_VARIABLE]))
    runpy.run_module(service, run_name="__main__", alter_sys=True)
