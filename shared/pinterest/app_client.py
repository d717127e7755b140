"""Calls Pinterest's token endpoint with the app's id and secret. Only the access service does."""

import base64
from collections.abc import Mapping
from urllib.parse import urlencode

from shared.pinterest.client import PinterestClient, record_failure
from shared.pinterest.failures import NotSent
from shared.pinterest.model import TokenGrant
from shared.pinterest.reading import read_grant
from shared.pinterest.settings import PinterestSettings

TOKEN_OPERATION = "oauth/token"  # noqa: S105
FORM = "application/x-www-form-urlencoded"


class PinterestAppClient(PinterestClient):
    """Also issues tokens: it knows the app's id and secret."""

    def __init__(self, settings: PinterestSettings) -> None:
        super().__init__(settings)
        self._app = settings

    async def request_tokens(self, form: Mapping[str, str]) -> TokenGrant:
        """Sends a form to the token endpoint, with the app's id and secret."""
        fields = dict(form)
        if fields.get("grant_type") == "authorization_code":
            # Apps from before 2025-09-25 otherwise get refresh tokens that can't be renewed
            fields["continuous_refresh"] = "true"
        try:
            secret = self._app.app_secret
        except (OSError, UnicodeDecodeError):  # its file is being replaced
            failure = NotSent(TOKEN_OPERATION, "The file with the app's secret can't be read.")
            record_failure(failure)
            raise failure from None
        app = f"{self._app.pinterest_app_id}:{secret}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(app.encode()).decode()}",
            "Content-Type": FORM,
        }
        return await self._send(
            TOKEN_OPERATION,
            "POST",
            "/oauth/token",
            read_grant,
            headers=headers,
            content=urlencode(fields).encode(),
        )
