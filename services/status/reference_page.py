"""The reference page of the API at /docs: Scalar shows the gateway's /openapi.json.

The page loads nothing from other hosts. Scalar is one file of JavaScript, which a package ships.
"""

import html
import json
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse

router = APIRouter(prefix="/docs", include_in_schema=False)

PACKAGE = "flask-openapi-scalar"
SCRIPT = Path(str(files("flask_openapi_scalar"))) / "templates/scalar/js/scalar.standalone.js"
SCRIPT_NAME = f"scalar-{version(PACKAGE)}.js"
"""The version in the name: a browser keeps the file until Scalar is updated."""

CONFIGURATION = {
    "url": "/openapi.json",
    # Scalar would load these from its makers' hosts
    "withDefaultFonts": False,
    "telemetry": False,
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
    # Requests go from the browser to this gateway, and the browser forgets the key
    "proxyUrl": "",
    "persistAuth": False,
    "hideClientButton": True,
    "showDeveloperTools": "never",
    "documentDownloadType": "json",
    "defaultHttpClient": {"targetKey": "shell", "clientKey": "curl"},
    "authentication": {"preferredSecurityScheme": "ApiKey"},
}
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pinflow API</title>
<link rel="icon" href="data:,">
</head>
<body>
<noscript>This page needs JavaScript. The API is described in
<a href="/openapi.json">/openapi.json</a>.</noscript>
<script id="api-reference" data-configuration="$configuration"></script>
<script src="/docs/$script"></script>
</body>
</html>
""")
PAGE = _PAGE.substitute(configuration=html.escape(json.dumps(CONFIGURATION)), script=SCRIPT_NAME)
HEADERS = {
    # Scalar adds its styles to the page, and pictures as data
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("")
async def get_reference_page() -> HTMLResponse:
    """Show the API."""
    return HTMLResponse(PAGE, headers={**HEADERS, "Cache-Control": "no-cache"})


@router.get(f"/{SCRIPT_NAME}")
async def get_reference_script() -> FileResponse:
    """Get Scalar."""
    return FileResponse(
        SCRIPT,
        HTTPStatus.OK,
        {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        },
        media_type="text/javascript",
    )
