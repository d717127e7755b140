"""Runs status: python -m services.status."""

import gc

# Until the process has set it up. It would walk what is imported again and again: a seventh of the
# CPU of a start
gc.disable()

from services.status.app import create_app
from services.status.config import StatusSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("status", StatusSettings(), create_app)
