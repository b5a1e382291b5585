"""The page with a transcript of 4 h (39,600 words), in a real Chromium: when it can be read and used, and how long its
main thread is held at most, by the browser's own trace.

python -m bench.page [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import results
from tests.support import chromium, long_page
from tests.support.app import stand_ins
from tests.support.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Seconds since the navigation began, at which the page first showed a segment, and had all of them.
_WATCH = """
    window.shown = {};
    new MutationObserver(() => {
      if (document.querySelector("article")) window.shown.first ??= performance.now() / 1000;
      if (document.querySelector(".transcript[data-complete]")) window.shown.all ??= performance.now() / 1000;
    }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-complete"] });
"""


@dataclass(slots=True)
class Figures:
    """Seconds, of every round."""

    first: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    longest: dict[str, list[chromium.Longest]] = field(default_factory=dict)  # by what was done

    def measure(self, page: Page, what: str, act: Callable[[], None]) -> None:
        self.longest.setdefault(what, []).append(chromium.longest_task(page, act))


def run(rounds: int) -> Figures:
    figures = Figures()
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(long_page.keep(Path(scratch, "data")))
        with serving(stand_ins(Path(scratch))) as url, chromium.chromium() as browser:
            for _ in range(rounds):
                page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
                page.add_init_script(_WATCH)
                use = long_page.LongPage(page, f"{url}/#/task/{long_page.TASK}")
                figures.measure(page, "open", use.open)
                shown = page.evaluate("window.shown")
                figures.first.append(shown["first"])
                figures.all.append(shown["all"])
                figures.measure(page, "scroll", use.scroll)
                figures.measure(page, "search, letter by letter", use.search)
                figures.measure(page, "name a speaker", use.name_speaker)
                figures.measure(page, "narrow the window", use.narrow)
                page.context.close()
    return figures


def body(figures: Figures, load: float) -> str:
    rows = [
        [what, *(results.spread([1000 * of(one) for one in found], 0) for of in (_cpu, _wall))]
        for what, found in figures.longest.items()
    ]
    worst = max(_wall(one) for found in figures.longest.values() for one in found)
    return f"""
39,600 words in 3,300 segments, in Chromium: median (smallest-largest) of {len(figures.first)} rounds, at a load of
{load:.1f} on {results.CORES} cores.

{results.table(["what is done", "longest task: CPU ms", "wall ms"], rows)}

- first segments shown, s after the navigation began: {results.spread(figures.first)}
- all segments there, s: {results.spread(figures.all)}
{results.verdict("longest task of all, wall s", worst, 0.1, most=True)}
"""


def _cpu(task: chromium.Longest) -> float:
    return task.cpu


def _wall(task: chromium.Longest) -> float:
    return task.wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked = results.arguments(parser)
    figures = run(asked.rounds)
    text = body(figures, os.getloadavg()[0])
    results.publish("page", "The page, with a transcript of 4 h", text, asdict(figures), asked)


if __name__ == "__main__":
    main()
