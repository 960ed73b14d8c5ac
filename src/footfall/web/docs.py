"""The page `/docs`: Swagger UI over `/openapi.json`, all of it served from here.

The package swagger-ui-py is only where Swagger UI's built files come from: it is never imported, which would bring a
template engine and its own server integrations along.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

ASSETS: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
"""The files of Swagger UI that the page needs, with their media types."""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Footfall API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
"""

# validatorUrl: Swagger UI would otherwise send the document to a server of its makers.
INIT_SCRIPT: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from any other address. Swagger UI sets style attributes and draws icons from `data:` URLs."""


def asset_folder() -> Path:
    """Where the files of Swagger UI are.

    Raises:
        FileNotFoundError: Footfall is installed without its dependency swagger-ui-py.
    """
    package = find_spec("swagger_ui")
    if package is None or package.origin is None:
        raise FileNotFoundError("swagger-ui-py is not installed; install Footfall with its dependencies")
    return Path(package.origin).parent / "static"
