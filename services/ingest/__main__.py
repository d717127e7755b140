"""Runs the ingest service: python -m services.ingest."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("ingest", IngestSettings, create_app)
