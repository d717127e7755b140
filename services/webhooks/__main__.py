"""python -m services.webhooks"""

import gc

# Until serve() has set it up: it would walk what is imported again and again, a seventh of the CPU
# of a start
gc.disable()

from services.webhooks.app import create_app
from services.webhooks.config import WebhooksSettings
from shared.runtime.logging import configure_logging
from shared.runtime.service import serve

if __name__ == "__main__":
    settings = WebhooksSettings()
    configure_logging(settings, service="webhooks")
    serve(create_app(settings), settings)
