"""Dependencies of the webhooks service's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.webhooks.subscriptions.service import WebhookService
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class WebhooksDependencies:
    """Holds the objects that create_app builds for the endpoints."""

    service: WebhookService
    reader: JsonReader


Webhooks = Annotated[WebhooksDependencies, Depends(typed_dependencies(WebhooksDependencies))]
