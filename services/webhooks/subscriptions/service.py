"""Creates, reads, changes and deletes webhooks, and reads and resends their deliveries."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.subscriptions.repository import DeliveryPage, WebhookRepository
from services.webhooks.subscriptions.rules import (
    require_allowed_address,
    require_below_limit,
    require_enabled,
    require_found,
)
from shared.http.address_rules import AddressRules
from shared.postgres.row import Row


class WebhookService:
    """Checks and applies requests about webhooks. Raises ApiError."""

    def __init__(
        self,
        webhooks: WebhookRepository,
        address_rules: AddressRules,
        worker: DeliveryWorker,
        max_webhooks: int,
    ) -> None:
        """Takes `max_webhooks`, the limit of one workspace."""
        self._webhooks = webhooks
        self._address_rules = address_rules
        self._worker = worker
        self._max_webhooks = max_webhooks

    async def create(self, workspace_id: UUID, values: Mapping[str, Any]) -> tuple[Row, bool]:
        """Creates a webhook unless the workspace has one with the same values.

        Returns the webhook, and whether this call created it. `values` are columns: url, secret,
        events, is_enabled.
        """
        require_allowed_address(self._address_rules, values["url"])
        async with self._webhooks.lock(workspace_id) as locked:
            if (existing := await locked.find(values)) is not None:
                return existing, False
            require_below_limit(await locked.count(), self._max_webhooks)
            return await locked.create(values), True

    async def list_webhooks(self, workspace_id: UUID) -> list[Row]:
        """Returns the workspace's webhooks, oldest first."""
        return await self._webhooks.list_webhooks(workspace_id)

    async def get(self, workspace_id: UUID, webhook_id: UUID) -> Row:
        return require_found(await self._webhooks.get(workspace_id, webhook_id), "Webhook")

    async def update(self, workspace_id: UUID, webhook_id: UUID, changes: Mapping[str, Any]) -> Row:
        """Changes a webhook. `changes` are columns: url, secret, events, is_enabled."""
        if "url" in changes:
            require_allowed_address(self._address_rules, changes["url"])
        row = await self._webhooks.update(workspace_id, webhook_id, changes)
        webhook = require_found(row, "Webhook")
        self._worker.wake()  # pending deliveries of a webhook that was disabled may be due
        return webhook

    async def delete(self, workspace_id: UUID, webhook_id: UUID) -> None:
        require_found(await self._webhooks.delete(workspace_id, webhook_id), "Webhook")

    async def list_deliveries(
        self,
        workspace_id: UUID,
        webhook_id: UUID,
        *,
        limit: int,
        before: UUID | None,
        status: DeliveryStatus | None,
    ) -> DeliveryPage:
        """Returns a page of a webhook's deliveries, newest first."""
        await self.get(workspace_id, webhook_id)
        return await self._webhooks.list_deliveries(
            webhook_id, limit=limit, before=before, status=status
        )

    async def get_delivery(self, workspace_id: UUID, webhook_id: UUID, delivery_id: UUID) -> Row:
        await self.get(workspace_id, webhook_id)
        row = await self._webhooks.get_delivery(webhook_id, delivery_id)
        return require_found(row, "Delivery")

    async def resend(self, workspace_id: UUID, webhook_id: UUID, delivery_id: UUID) -> Row:
        """Makes a delivery due now, with as many attempts as a new one."""
        require_enabled(await self.get(workspace_id, webhook_id))
        row = await self._webhooks.requeue(webhook_id, delivery_id)
        delivery = require_found(row, "Delivery")
        self._worker.wake()
        return delivery
