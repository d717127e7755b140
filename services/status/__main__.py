"""Runs status: python -m services.status."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.status.app import create_app
from services.status.config import StatusSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("status", StatusSettings, create_app)
