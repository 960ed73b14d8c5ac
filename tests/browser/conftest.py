"""A browser and a website, for tests of what visitors see."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from website import Website

VISITOR = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
"""A user agent, because that of a browser without a window is a bot's."""
ACTION_MS = 20_000
"""For each thing that a browser is asked to do, on a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def chromium() -> str:
    """Where Debian's Chromium or Google's Chrome is."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("needs chromium: apt-get install chromium")
    assert path is not None, "CI has no chromium: make services"
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One for all tests of a module. Its asyncio loop runs until then, and other tests have loops of their own."""
    arguments = ["--host-resolver-rules=MAP *.example 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # root may have none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=arguments,
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty tab of a visitor who was never here. The test fails if a script of the page does."""
    context = browser.new_context(user_agent=VISITOR)
    context.set_default_timeout(ACTION_MS)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert [] == errors


@pytest.fixture(scope="module")
def website_server() -> Iterator[Website]:
    with Website().running() as website:
        yield website


@pytest.fixture
def website(website_server: Website) -> Website:
    """A website without pages."""
    return website_server.clear({})
