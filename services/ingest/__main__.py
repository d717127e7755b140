"""python -m services.ingest"""

import gc

# Until serve() has set it up: it would walk what is imported again and again, a seventh of the CPU
# of a start
gc.disable()

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.runtime.logging import configure_logging
from shared.runtime.service import serve

if __name__ == "__main__":
    settings = IngestSettings()
    configure_logging(settings, service="ingest")
    serve(create_app(settings), settings)
