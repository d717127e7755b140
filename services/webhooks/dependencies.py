"""Names what the webhooks service's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.webhooks.subscriptions.service import WebhookService
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class WebhooksDependencies:
    """Holds what create_app made for the endpoints."""

    service: WebhookService
    reader: JsonReader


Webhooks = Annotated[WebhooksDependencies, Depends(typed_dependencies(WebhooksDependencies))]
