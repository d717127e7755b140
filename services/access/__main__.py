"""Runs the access service: python -m services.access."""

import gc

# Until the process has set it up. It would walk what is imported again and again: a seventh of the
# CPU of a start
gc.disable()

from services.access.app import create_app
from services.access.config import AccessSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("access", AccessSettings(), create_app)
