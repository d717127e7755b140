"""Runs the webhooks service: python -m services.webhooks."""

import gc

# Off until `run` configures it. During the imports below, the collector would scan all modules
# again and again: a seventh of the CPU time of a start
gc.disable()

from services.webhooks.app import create_app
from services.webhooks.config import WebhooksSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("webhooks", WebhooksSettings, create_app)
