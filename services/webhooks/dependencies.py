"""Names what the webhooks service's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.webhooks.delivery.ssrf import AddressRules
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.subscriptions.repository import WebhookRepository
from shared.http.bodies import Bodies
from shared.http.dependencies import provided


@dataclass(frozen=True, slots=True)
class WebhooksDependencies:
    """Holds what create_app made for the endpoints."""

    bodies: Bodies
    rules: AddressRules
    registry: WebhookRepository
    worker: DeliveryWorker


Webhooks = Annotated[WebhooksDependencies, Depends(provided(WebhooksDependencies))]
