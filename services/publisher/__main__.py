"""python -m services.publisher"""

import gc

# Until serve() has set it up: it would walk what is imported again and again, a seventh of the CPU
# of a start
gc.disable()

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from shared.runtime.logging import configure_logging
from shared.runtime.service import serve

if __name__ == "__main__":
    settings = PublisherSettings()
    configure_logging(settings, service="publisher")
    serve(create_app(settings), settings)
