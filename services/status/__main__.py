"""python -m services.status"""

import gc

# Until serve() has set it up: it would walk what is imported again and again, a seventh of the CPU
# of a start
gc.disable()

from services.status.app import create_app
from services.status.config import StatusSettings
from shared.runtime.logging import configure_logging
from shared.runtime.service import serve

if __name__ == "__main__":
    settings = StatusSettings()
    configure_logging(settings, service="status")
    serve(create_app(settings), settings)
