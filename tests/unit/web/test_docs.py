import re

import httpx
import pytest


def test_the_documentation_needs_no_other_address(client: httpx.Client) -> None:
    """The page names only files of this server, they are there, and the browser is told to load nothing else."""
    page = client.get("/docs")
    script = client.get("/docs/init.js")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert "://" not in page.text + script.text + page.headers["content-security-policy"]
    assert "validatorUrl: null" in script.text
    assert "<script>" not in page.text
    assert "/docs/init.js" in named
    for name in named:
        asset = client.get(name)
        assert asset.status_code == 200
        assert asset.content


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("favicon-32x32.png", "image/png"),
    ],
)
def test_swagger_ui_is_served_from_here(client: httpx.Client, name: str, media_type: str) -> None:
    """With types a browser accepts under `nosniff`, and kept by it for a day."""
    response = client.get(f"/docs/{name}")

    assert media_type == response.headers["content-type"]
    assert response.headers["cache-control"] == "public, max-age=86400"
