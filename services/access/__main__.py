"""Runs the access service: python -m services.access."""

import gc

# Off until the process configures it. It would scan the imported modules again and again, which
# costs a seventh of the CPU time of a start
gc.disable()

from services.access.app import create_app
from services.access.config import AccessSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("access", AccessSettings(), create_app)
