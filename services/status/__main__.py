"""python -m services.status"""

from services.status.app import create_app
from services.status.config import StatusSettings
from shared.logging import configure_logging
from shared.process import serve

if __name__ == "__main__":
    settings = StatusSettings()
    configure_logging(settings, service="status")
    serve(create_app(settings), settings)
