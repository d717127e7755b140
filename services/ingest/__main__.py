"""Runs the ingest service: python -m services.ingest."""

import gc

# The collector stays off until `run` configures it. During the imports of modules below, it would
# scan all modules again and again: a seventh of the CPU time of a start
gc.disable()

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("ingest", IngestSettings, create_app)
