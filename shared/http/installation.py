"""Names a process's installation in the response of /readyz."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Pinflow-Installation"
PATH = "/readyz"


class InstallationHeader:
    """Adds the installation's id to /readyz.

    The id shows a caller if a process of another installation answers.
    """

    def __init__(self, app: ASGIApp, *, installation: str) -> None:
        self._app = app
        self._header = (HEADER.lower().encode(), installation.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), self._header]
            await send(message)

        is_readiness = scope["type"] == "http" and scope["path"] == PATH
        await self._app(scope, receive, send_with_header if is_readiness else send)
