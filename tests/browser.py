"""A real browser for tests: Chromium of the system, whose console must stay silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def browser_page(width: int = 1200, scheme: str = "light", bears: str = "") -> Iterator[Any]:
    """A page of Playwright. Warnings and errors on its console fail the test, but for those with ``bears`` in them."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        page.on("console", lambda message: message.type in ("warning", "error") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
        browser.close()
    unborne = [text for text in said if not (bears and bears in text)]
    assert not unborne, unborne


def fits(page: Any) -> bool:
    """Whether the page needs no scrolling to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def problems(page: Any) -> list[str]:
    """What the page lacks for those who do not see it: names of pictures, captions, headings in order, labels."""
    return list(
        page.evaluate(
            """() => {
              const found = [];
              for (const e of document.querySelectorAll('svg[role], img')) {
                if (!(e.getAttribute('aria-label') || e.getAttribute('alt'))) found.push('picture without text');
              }
              for (const e of document.querySelectorAll('table')) {
                if (!e.caption) found.push('table without caption');
                if (!e.querySelector('th[scope=col]')) found.push('table without headings');
              }
              for (const e of document.querySelectorAll('input, select')) {
                if (!e.labels.length) found.push('field without label');
              }
              const levels = [...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1]);
              if (levels.filter(level => level === 1).length !== 1) found.push('not one h1');
              levels.reduce((last, level) => { if (level > last + 1) found.push('level left out'); return level; }, 0);
              const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
              if (new Set(ids).size !== ids.length) found.push('id twice');
              if (!document.documentElement.lang || !document.title) found.push('no language or title');
              return found;
            }"""
        )
    )
