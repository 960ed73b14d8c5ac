"""Makes the pictures in docs/images: the pages of a made-up site, in Chromium. Run it by `make screenshots`.

The site has four weeks of visitors by a fixed seed, so the pictures change only when the pages do.
"""

import os
import random
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from harness import Footfall

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SITE = "shop.example"
DAYS = 56
PAGES = [
    "/",
    "/pricing",
    "/docs",
    "/blog/never-lose-a-hit",
    "/changelog",
    "/docs/install",
    "/about",
    "/blog/exactly-once",
]
REFERRERS = [
    "",
    "https://www.google.com/",
    "https://news.ycombinator.com/",
    "https://duckduckgo.com/",
    "https://chatgpt.com/",
    "https://lobste.rs/",
    "https://www.reddit.com/",
    "https://github.com/",
    "https://www.bing.com/",
]
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
]
SIGN_UP = {"event_type": "Signup", "props": {"plan": "team"}}


def events(now: datetime) -> list[dict[str, object]]:
    """What the visitors of the last weeks did, more of them on working days and as time goes on."""
    chance = random.Random(7)  # noqa: S311 - the same each time
    made: list[dict[str, object]] = []
    for day in range(DAYS):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1 - day)
        crowd = round((90 if midnight.weekday() < 5 else 55) * (1 + day / 90) * chance.uniform(0.85, 1.15))
        for visitor in range(crowd):
            moment = midnight + timedelta(hours=min(23.9, max(0, chance.gauss(14, 4))))
            known = {
                "site_id": SITE,
                "user_id": f"{day if chance.random() < 0.8 else 0}-{visitor}",
                "user_agent": chance.choices(AGENTS, [5, 4, 2, 2, 3])[0],
                "ip": "192.0.2.1",
            }
            referrer = chance.choices(REFERRERS, [9, 8, 3, 2, 2, 1, 1, 1, 1])[0]
            for number in range(min(9, 1 + int(chance.expovariate(0.6)))):
                page = chance.choices(PAGES, [10, 5, 4, 3, 2, 2, 1, 1])[0]
                more = {"event_type": "page_view", "path": page} if number < 5 or chance.random() > 0.2 else SIGN_UP
                at = moment + timedelta(seconds=50 * number)
                if at < now:
                    made.append(
                        {**known, **more, "timestamp": at.isoformat(), "referrer": referrer if number == 0 else None}
                    )
    return made


def main() -> None:
    """Serve the site and take the pictures."""
    chromium = shutil.which("chromium") or sys.exit("This needs chromium: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        footfall = Footfall(Path(directory)).start()
        made = events(now)
        for first in range(0, len(made), 500):
            httpx.post(f"{footfall.url}/events", json=made[first : first + 500]).raise_for_status()
        footfall.settle()
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for name, path, scheme, width in (
            ("site", f"/sites/{SITE}", "light", 1200),
            ("site-dark", f"/sites/{SITE}", "dark", 1200),
            ("site-phone", f"/sites/{SITE}", "light", 390),
            ("system", "/system", "light", 1000),
        ):
            page = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
            ).new_page()
            page.goto(footfall.url + path)
            page.wait_for_timeout(500)  # for the live figure
            page.screenshot(path=IMAGES / f"{name}.png", full_page=name != "site-phone")
        browser.close()
        footfall.kill()


if __name__ == "__main__":
    main()
