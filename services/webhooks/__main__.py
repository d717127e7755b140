"""Runs the webhooks service: python -m services.webhooks."""

import gc

# Until the process configures it. The collector would traverse the imported modules repeatedly,
# which costs a seventh of the CPU of a start
gc.disable()

from services.webhooks.app import create_app
from services.webhooks.config import WebhooksSettings
from shared.runtime.process import run

if __name__ == "__main__":
    run("webhooks", WebhooksSettings(), create_app)
