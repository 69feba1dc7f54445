"""A status page in a real browser: what it shows, what its console said, and what it asked for."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome") if find_spec("playwright") else ()
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SECONDS = 120.0  # a deadline on a busy machine, never a wait

needs_browser = pytest.mark.skipif(
    BROWSER is None,
    reason="no browser to drive: install chromium (Debian: apt-get install chromium) and 'zooswarm[dev]' (playwright)",
)


@contextmanager
def running_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(SWITCHES))
        yield browser
        browser.close()


class Watching:
    """A page that is open. `meanwhile` is called between two looks: for those who share the thread."""

    def __init__(self, browser: Any, url: str, meanwhile: Callable[[], None] = lambda: None, **options: Any):
        self.page = browser.new_context(**options).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.meanwhile = meanwhile
        self.page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def wait(self, condition: str, what: str, seconds: float = SECONDS) -> None:
        """Asked from outside: the page's own rules let nobody evaluate text in it."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"waited for {what}\n{self.page.inner_text('body')}\n{self.said}"
            self.meanwhile()
            self.page.wait_for_timeout(200)

    def wait_state(self, state: str, seconds: float = SECONDS) -> None:
        self.wait(f"document.getElementById('connection').dataset.state === '{state}'", f"the page {state}", seconds)

    def number(self, state: str) -> int:
        """Assignments in this state, as the first campaign's bar has them."""
        text = self.page.inner_text(f"#campaigns li[data-state={state}]")
        return int(re.search(r"[\d,]+", text)[0].replace(",", ""))

    def total(self, label: str) -> int:
        """One of the numbers at the top."""
        text = self.page.inner_text(f"#totals div:has(dt:text-is('{label}')) dd")
        return int(re.search(r"[\d,]+", text)[0].replace(",", ""))

    def points(self) -> int:
        return sum(int(svg.get_attribute("data-points")) for svg in self.page.query_selector_all(".zoomap"))

    def unexpected(self) -> list[str]:
        """What the console said, but for the browser's own words about a server that is away."""
        return [line for line in self.said if "net::ERR_" not in line]

    def close(self) -> None:
        self.page.context.close()
