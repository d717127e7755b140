"""Runs the access service: python -m services.access."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.access.app import create_app
from services.access.config import AccessSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("access", AccessSettings, create_app)
