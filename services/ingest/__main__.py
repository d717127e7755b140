"""Runs ingest: python -m services.ingest."""

import gc

# Until the process has set it up. It would walk what is imported again and again: a seventh of the
# CPU of a start
gc.disable()

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("ingest", IngestSettings(), create_app)
