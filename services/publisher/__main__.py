"""Runs the publisher: python -m services.publisher."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("publisher", PublisherSettings, create_app)
