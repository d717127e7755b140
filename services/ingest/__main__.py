"""Runs the ingest service: python -m services.ingest."""

import gc

# Off during the imports below, where it would take a seventh of the CPU of a start. `run` turns it
# on
gc.disable()

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("ingest", IngestSettings(), create_app)
