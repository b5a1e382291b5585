"""Plots of what the measurements left in bench/results, one figure each, into bench/plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.results import FOLDER

_MANY_POINTS = {"soak"}  # thousands, which an SVG file would hold one by one


def main() -> None:
    target = FOLDER / "plots"
    target.mkdir(exist_ok=True)
    for file in sorted((FOLDER / "results").glob("*.json")):
        if file.stem in FIGURES:
            print(draw(file, target))


def draw(file: Path, target: Path) -> Path:
    figures = json.loads(file.read_text())
    count, plot = FIGURES[file.stem]
    shape, axes = pyplot.subplots(1, count, figsize=(5.5 * count, 4), layout="constrained", squeeze=False)
    plot(figures, list(axes[0]))
    here = figures["machine"]
    shape.suptitle(f"{file.stem}: {here['cores']} cores, commit {here['commit']}, {here['date']}", fontsize=9)
    if file.stem in _MANY_POINTS:
        path = target / f"{file.stem}.png"
        shape.savefig(path, dpi=150)
    else:
        path = target / f"{file.stem}.svg"
        shape.savefig(path, metadata={"Date": None})
    pyplot.close(shape)
    return path


def performance(figures: Any, axes: list[Axes]) -> None:
    cases = figures["cases"]
    names = [case["name"] for case in cases]
    bars(axes[0], names, {name: [case[name] for case in cases] for name in ("sequential", "parallel")})
    axes[0].set_ylabel("seconds")


def peers(figures: Any, axes: list[Axes]) -> None:
    timings = figures["timings"]
    designs = list(timings[0]["seconds"])
    names = [timing["work"] for timing in timings]
    bars(axes[0], names, {design: [timing["seconds"][design] for timing in timings] for design in designs})
    axes[0].set_ylabel("seconds")
    errors = figures["errors"]
    kinds = list(errors[designs[0]])
    bars(axes[1], kinds, {design: [[errors[design][kind]] for kind in kinds] for design in designs})
    axes[1].set_ylabel("error rate")


def confidence(figures: Any, axes: list[Axes]) -> None:
    axes[0].plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, bins in figures["bins"].items():
        axes[0].plot([row["said"] for row in bins], [row["right"] for row in bins], marker="o", label=name)
        axes[1].plot([row["said"] for row in bins], [row["words"] for row in bins], marker="o", label=name)
    axes[0].set(xlabel="mean confidence of the words in a bin", ylabel="share of them with the right speaker")
    axes[1].set(xlabel="mean confidence of the words in a bin", ylabel="words", yscale="log")
    axes[0].legend(fontsize=8)


def overhead(figures: Any, axes: list[Axes]) -> None:
    for name, seconds in figures["added"].items():
        ordered = sorted(1e3 * value for value in seconds)
        axes[0].plot(ordered, [place / len(ordered) for place in range(1, len(ordered) + 1)], label=name)
    axes[0].set(xlabel="ms for a 30 s recording", ylabel="share of requests", xscale="log")
    axes[0].legend(fontsize=8)
    loads = figures["loads"]
    axes[1].plot([load["clients"] for load in loads], [load["rate"] for load in loads], marker="o")
    axes[1].set(xlabel="clients", ylabel="one-second jobs a second", ylim=(0, None))


def scaling(figures: Any, axes: list[Axes]) -> None:
    minutes = {float(name): row for name, row in figures["minutes"].items()}
    axes[0].plot(list(minutes), [row["seconds"] / length for length, row in minutes.items()], marker="o")
    axes[0].set(xlabel="minutes of audio", ylabel="seconds per minute of audio", xscale="log", ylim=(0, None))
    for process in next(iter(minutes.values()))["peak_rss"] if minutes else ():
        peaks = [row["peak_rss"][process] / 2**30 for row in minutes.values()]
        axes[1].plot(list(minutes), peaks, marker="o", label=process)
    axes[1].set(xlabel="minutes of audio", ylabel="peak RSS, GiB", xscale="log", ylim=(0, None))
    axes[1].legend(fontsize=8)
    clients = {int(name): row for name, row in figures["clients"].items()}
    axes[2].plot(list(clients), [row["audio_per_second"] for row in clients.values()], marker="o")
    axes[2].set(xlabel="clients", ylabel="seconds of audio per second", ylim=(0, None))


def load(figures: Any, axes: list[Axes]) -> None:
    for row in figures["loads"]:
        ordered = sorted(took for _, took, well in row["answers"] if well)
        axes[0].plot(ordered, [place / len(ordered) for place in range(1, len(ordered) + 1)], label=row["load"])
    axes[0].set(xlabel="seconds for a 30 s recording", ylabel="share of answers", xlim=(0, None))
    axes[0].legend(fontsize=8)


def soak(figures: Any, axes: list[Axes]) -> None:
    samples, answers = figures["samples"], figures["answers"]
    for process in dict.fromkeys(sample["process"] for sample in samples):
        mine = [sample for sample in samples if sample["process"] == process]
        axes[0].plot([s["at"] / 60 for s in mine], [s["rss"] / 2**20 for s in mine], ".-", markersize=2, label=process)
        axes[2].plot([s["at"] / 60 for s in mine], [s["descriptors"] for s in mine], label=process)
    for kill in figures["kills"]:
        axes[0].axvline(kill / 60, color="0.85", linewidth=0.5, zorder=0)
    for kind in dict.fromkeys(answer["kind"] for answer in answers):
        good = [answer for answer in answers if answer["kind"] == kind and answer["error"] is None]
        axes[1].plot([a["at"] / 60 for a in good], [a["seconds"] for a in good], ".", markersize=2, label=kind)
    axes[0].set(xlabel="minutes; a line where a worker was killed", ylabel="RSS, MiB", ylim=(0, None))
    axes[1].set(xlabel="minutes", ylabel="seconds for an answer", ylim=(0, None))
    axes[2].set(xlabel="minutes", ylabel="open descriptors", ylim=(0, None))
    for axis in axes:
        axis.legend(fontsize=7)


def bars(axes: Axes, names: list[str], groups: dict[str, list[list[float]]]) -> None:
    """A bar for each median, and a line from the smallest to the largest."""
    width = 0.8 / len(groups)
    for number, (group, samples) in enumerate(groups.items()):
        places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(names))]
        medians = [statistics.median(values) for values in samples]
        reach = [
            [median - min(values) for median, values in zip(medians, samples, strict=True)],
            [max(values) - median for median, values in zip(medians, samples, strict=True)],
        ]
        axes.bar(places, medians, width, yerr=reach, label=group, capsize=3)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.legend(fontsize=8)


# By the measurement's name: how many plots stand side by side, and who draws them.
def scaling_burst(figures: Any, axes: list[Axes]) -> None:
    times = [sample["time"] - figures["sent"] for sample in figures["samples"]]
    for name, label in (("held", "jobs that workers hold"), ("queued", "jobs that wait in the queue")):
        axes[0].step(times, [sample[name] for sample in figures["samples"]], where="post", label=label, linewidth=1)
    axes[0].set(xlabel="seconds after the burst", ylabel="jobs", ylim=(0, None))
    workers = axes[0].twinx()
    for name, colour in (("wanted", "tab:gray"), ("up", "black")):
        workers.step(times, [sample[name] for sample in figures["samples"]], color=colour, where="post", label=name)
    workers.set(ylabel="workers", ylim=(0, None))
    workers.legend(fontsize=8, loc=(0.42, 0.38), title="workers")
    axes[0].legend(fontsize=8, loc=(0.42, 0.62))


def scale_out(figures: Any, axes: list[Axes]) -> None:
    for axis, (step, measured) in zip(axes, figures["series"].items(), strict=True):
        workers = [each["workers"] for each in measured]
        alone = measured[0]["rate"] / workers[0]
        axis.plot(workers, [alone * number for number in workers], color="tab:gray", linewidth=1, label="linear")
        axis.plot(workers, [each["rate"] for each in measured], marker="o", label="measured")
        axis.set(title=f"steps of {step} s", xlabel="workers", ylabel="jobs/s", xscale="log", yscale="log")
        axis.set_xticks(workers, [f"{number:.0f}" for number in workers])
        axis.legend(fontsize=8)


FIGURES: dict[str, tuple[int, Callable[[Any, list[Axes]], None]]] = {
    "confidence": (2, confidence),
    "performance": (1, performance),
    "peers": (2, peers),
    "overhead": (2, overhead),
    "scaling": (3, scaling),
    "scaling_burst": (1, scaling_burst),
    "scale_out": (2, scale_out),
    "load": (1, load),
    "soak": (3, soak),
}

if __name__ == "__main__":
    main()
