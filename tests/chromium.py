"""Chromium on commands, a line of JSON each; runs in an environment with playwright, and imports nothing of ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright  # type: ignore[import-not-found,unused-ignore]

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
MEASURED = ("--disable-sync", "--enable-precise-memory-info", "--js-flags=--expose-gc")


def listen(page: Any, said: list[str]) -> None:
    """Note errors and requests of a page."""
    page.on("console", lambda message: message.type == "error" and said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(f"request {request.url}"))


def main() -> None:
    """Answer the commands of standard input until it ends."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*QUIET, *MEASURED])
        page: Any = None
        said: list[str] = []
        for line in sys.stdin:
            command, given = json.loads(line)
            answer: Any = None
            if command in ("open", "leave") and page is not None:
                page.close()
                page = None
            if command == "open":
                page, said = chromium.new_page(**given["page"]), []
                listen(page, said)
                page.goto(given["url"])
            elif command == "evaluate":
                answer = page.evaluate(given)
            elif command == "resize":
                page.set_viewport_size({"width": given, "height": 900})
            elif command == "press":
                page.keyboard.press(given)
            elif command == "drag":
                page.mouse.move(*given[0])
                page.mouse.down()
                page.mouse.move(*given[1], steps=4)
                page.mouse.up()
            elif command == "said":
                answer = said
            elif command == "axe":
                # Not as a script tag: the page's own policy refuses those of others.
                page.evaluate(next(Path(sys.prefix).rglob("axe.min.js")).read_text(encoding="utf-8"))
                answer = page.evaluate("() => axe.run().then((found) => found.violations)")
            print(json.dumps(answer), flush=True)
        chromium.close()


if __name__ == "__main__":
    main()
