"""Runs the delivery process: python -m services.publisher.delivery."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.publisher.delivery.app import create_app
from services.publisher.delivery.config import DeliverySettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("delivery", DeliverySettings, create_app)
