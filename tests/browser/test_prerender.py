"""A page that the browser renders before anybody opens it. Playwright turns that off, so Chromium runs by itself."""

import os
import subprocess
from pathlib import Path

from harness import Footfall, eventually
from website import Website

RULES = '<script type="speculationrules">{"prerender": [{"urls": ["/to"], "eagerness": "immediate"}]}</script>'
OPEN_WHEN_TOLD = """<script>
    const ask = async () => (await fetch("/open")).ok ? (location.href = "/to") : setTimeout(ask, 50);
    ask();
</script>"""
REPORT = "<script>fetch(`/rendered?${document.prerendering}`)</script>"


def test_prerendered_page_counts_when_it_is_opened(
    chromium: str, website: Website, served: Footfall, tmp_path: Path
) -> None:
    """Nothing is sent before, and one view afterwards."""
    tag = f'<script defer src="{served.url}/script.js" data-site="prerender"></script>'
    website.clear({"/from": RULES + OPEN_WHEN_TOLD + tag, "/to": REPORT + tag, "/rendered": ""})
    arguments = ["--headless", "--disable-gpu", f"--user-data-dir={tmp_path}", "--remote-debugging-port=0"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    # Only secure origins are prerendered, and this machine is one.
    command = [chromium, *arguments, website.url("/from", host="localhost")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            eventually(True, lambda: "/rendered?true" in website.asked, timeout_s=40)
            eventually(1, lambda: served.stats("prerender")["total_views"])
            website.pages["/open"] = ""
            eventually(2, lambda: served.stats("prerender")["total_views"], timeout_s=20)
        finally:
            browser.terminate()
    served.settle()
    assert [{"path": "/from", "views": 1}, {"path": "/to", "views": 1}] == served.stats("prerender")["top_paths"]
    assert "prefetch" not in served.ledger()["refused"]
