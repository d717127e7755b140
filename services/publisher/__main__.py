"""Runs publisher: python -m services.publisher."""

import gc

# Until the process has set it up. It would walk what is imported again and again: a seventh of the
# CPU of a start
gc.disable()

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("publisher", PublisherSettings(), create_app)
