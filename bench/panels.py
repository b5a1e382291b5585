"""`make panels`: what the dashboards show of a server under load, as pictures in docs/dashboards, and how many series
each query has. A Grafana is not needed: the queries are asked of a Prometheus, whose windows are a sixth."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, PercentFormatter, StrMethodFormatter

from bench.results import arguments, publish, table
from tests.support.dashboards import DASHBOARDS
from tests.support.load import loaded
from tests.support.panels import Panel
from tests.support.paths import REPOSITORY
from tests.support.prometheus import Prometheus

_COLUMNS = 3
_STYLES = ("-", "--", ":")
_LEGEND = 8  # entries shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load")
    asked = arguments(parser)
    target = REPOSITORY / "docs" / "dashboards"
    target.mkdir(exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder, loaded(Path(folder), faster=6) as watched:
        time.sleep(asked.seconds)
        for name, panels in DASHBOARDS.items():
            found = [read(watched.prometheus, panel, asked.seconds) for panel in panels]
            draw(name, found).savefig(target / f"{name}.png", dpi=80)
            rows += [
                [f"{name}: {panel.title}", len(lines), panel.needs or "-"]
                for panel, lines in zip(panels, found, strict=True)
            ]
    body = table(["panel", "series", "needs"], rows)
    publish("panels", "Panels of the dashboards, under load", body, {"panels": rows}, asked)


Line = tuple[str, list[float], list[float]]  # legend, seconds, values


def read(prometheus: Prometheus, panel: Panel, seconds: float) -> list[Line]:
    lines = []
    for legend, query in panel.queries.items():
        for series in prometheus.history(query, seconds):
            times, values = zip(*series["values"], strict=True)
            lines.append((named(legend, series["metric"]), list(times), [float(value) for value in values]))
    return [line for line in lines if not all(map(math.isnan, line[2]))]


def named(legend: str, labels: dict[str, Any]) -> str:
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", str(value))
    return re.sub(r"\{\{\w+\}\}", "", legend).strip()


def draw(name: str, found: list[list[Line]]) -> Figure:
    rows = -(-len(found) // _COLUMNS)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(18, 3.2 * rows), layout="constrained", squeeze=False)
    for place in axes.flat:
        place.set_visible(False)
    for place, panel, lines in zip(axes.flat, DASHBOARDS[name], found, strict=False):
        plot(place, panel, lines)
    figure.suptitle(f"diarserve: {name}", fontsize=14)
    return figure


def plot(place: Axes, panel: Panel, lines: list[Line]) -> None:
    place.set_visible(True)
    place.set_title(f"{panel.title} [{panel.unit}]" if panel.unit in ("reqps", "ops") else panel.title, fontsize=10)
    if not lines:
        place.text(0.5, 0.5, f"needs {panel.needs}" if panel.needs else "no data", ha="center")
        place.set(xticks=[], yticks=[])
        return
    begin = min(line[1][0] for line in lines)
    for number, (legend, times, values) in enumerate(sorted(lines, key=lambda line: -max(line[2]))):
        style = _STYLES[number // 10 % len(_STYLES)]  # there are ten colours
        place.plot([when - begin for when in times], values, style, label=legend[:40])
    highest = max(value for line in lines for value in line[2] if not math.isnan(value))
    place.set_ylim(bottom=0, top=1.08 * highest or 1.0)
    place.yaxis.set_major_formatter(formatter(panel.unit))
    place.legend(
        *(shown[:_LEGEND] for shown in place.get_legend_handles_labels()),
        fontsize=7,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    place.tick_params(labelsize=8)


def formatter(unit: str) -> Formatter:
    """Of Grafana's unit."""
    match unit:
        case "bytes" | "s":
            return EngFormatter("B" if unit == "bytes" else "s")
        case "percentunit":
            return PercentFormatter(1.0)
        case _:
            return StrMethodFormatter("{x:g}")


if __name__ == "__main__":
    main()
