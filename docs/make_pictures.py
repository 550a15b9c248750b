#!/usr/bin/env python3
"""Take the pictures in docs/images from a demo that has run: its report and its dashboard, in light and dark.

usage: make_pictures.py [DEMO_DIR]     (default: build/demo)

Needs Chromium.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]

from browser import browser_page  # noqa: E402
from PIL import Image  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402

IMAGES = REPOSITORY / "docs/images"
LARGEST = 150_000  # bytes


def save(name: str, png: bytes) -> None:
    path = IMAGES / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    # Few colours make a small file; this method keeps those of thin lines.
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(REPOSITORY)}  {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"{path} is larger than {LARGEST:,} bytes")


def main() -> None:
    demo = Path(sys.argv[1] if sys.argv[1:] else REPOSITORY / "build/demo").resolve()
    report = demo / "state/demo/results/report.html"
    dashboard = load_settings(demo / "demo.conf").job_api_root.removesuffix("/rest_api")
    for scheme in ("light", "dark"):
        with browser_page(1100, scheme) as page:
            page.goto(report.as_uri())
            height = page.locator("#fleet").bounding_box()["y"] - 12
            save(
                f"report-{scheme}",
                page.screenshot(clip={"x": 0, "y": 0, "width": 1100, "height": height}, full_page=True),
            )
            page.locator("section", has=page.locator("#scans")).scroll_into_view_if_needed()
            top = page.evaluate("document.querySelector('#scans').getBoundingClientRect().top + scrollY") - 8
            bottom = page.evaluate("document.querySelector('footer').getBoundingClientRect().top + scrollY") - 24
            clip = {"x": 0, "y": top, "width": 1100, "height": bottom - top}
            save(f"science-{scheme}", page.screenshot(clip=clip, full_page=True))
            page.goto(f"{dashboard}/#/demo")
            page.wait_for_selector("svg.chart")
            page.wait_for_selector("caption:has-text('Jobs 1 to')")
            save(f"dashboard-{scheme}", page.screenshot())


if __name__ == "__main__":
    main()
