"""The figures of `paper.py`, as SVG: text stays text, and nothing in them depends on the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from paper_numbers import Run, plane
from paper_searches import Values

mpl.use("Agg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "chameleon-ray",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "figure.facecolor": "white",
    }
)

# Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for those who print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")
_LOOKS = {  # a colour for each family, ours thick
    "chameleon": {"color": _COLOURS[0], "linestyle": "-", "linewidth": 2.6},
    "autotvm": {"color": _COLOURS[1], "linestyle": "-"},
    "autotvm_diversity": {"color": _COLOURS[1], "linestyle": "--"},
    "chameleon_paper": {"color": _COLOURS[2], "linestyle": "-"},
    "adaptive_exploration": {"color": _COLOURS[2], "linestyle": "--"},
    "adaptive_sampling": {"color": _COLOURS[2], "linestyle": ":"},
    "KT hybrid_vndx": {"color": _COLOURS[3], "linestyle": "-"},
    "KT genetic_algorithm": {"color": _COLOURS[3], "linestyle": "--"},
    "genetic": {"color": _COLOURS[4], "linestyle": "-."},
    "random": {"color": _COLOURS[7], "linestyle": ":"},
}
_WIDTH = 4.2


def quality(curves: Mapping[str, Mapping[str, Values]], path: Path) -> None:
    """Score against measurements, a panel for each space (figures 9 and 12 to 14).

    Args:
        curves: Panel -> policy -> mean score after each attempt.
        path: Where the SVG goes.
    """
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    size = (_WIDTH * columns + 1.6, 3.2 * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (title, panel) in zip(axes.flat, curves.items(), strict=False):
        for name, values in panel.items():
            look: dict[str, Any] = {"linewidth": 1.4, **_LOOKS.get(name, {})}
            axis.plot(np.arange(1, len(values) + 1), values, label=name, **look)
        axis.set_title(title)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axis.set_xlim(left=8)
        axis.set_ylim(0.4, 1.01)
        axis.set_xlabel("measurements, failed ones included")
        axis.set_ylabel("optimum / best found")
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    _save(figure, path)


def stacked(bars: Mapping[str, Mapping[str, float]], path: Path, unit: str) -> None:
    """Where the time goes, a bar for each key of `bars` (figures 2 and 11)."""
    figure, axis = plt.subplots(figsize=(6.4, 0.5 * len(bars) + 1.2))
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    left = np.zeros(len(bars))
    for part, colour in zip(parts, _COLOURS, strict=False):
        widths = np.array([bar.get(part, 0.0) for bar in bars.values()])
        axis.barh(list(bars), widths, left=left, label=part, color=colour)
        left += widths
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _save(figure, path)


def grouped(bars: Mapping[str, Mapping[str, float]], path: Path, label: str) -> None:
    """A group of bars for each key of `bars` (figures 7, 8 and 10)."""
    figure, axis = plt.subplots(figsize=(1.2 + 1.6 * len(bars), 3.0))
    names = list(dict.fromkeys(name for group in bars.values() for name in group))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [group.get(name, np.nan) for group in bars.values()]
        places = np.arange(len(bars)) + (i - (len(names) - 1) / 2) * width
        axis.bar(places, heights, width, label=name, color=_COLOURS[i % len(_COLOURS)])
    axis.set_xticks(range(len(bars)), list(bars))
    axis.set_ylabel(label)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _save(figure, path)


def clusters(runs: Sequence[Run], path: Path) -> None:
    """The candidates of one round of each run and their clusters, on a plane (figure 5)."""
    figure, axes = plt.subplots(1, len(runs), figsize=(3.6 * len(runs), 3.2), squeeze=False)
    markers = "o^sDvPX*"
    for axis, run in zip(axes.flat, runs, strict=True):
        points = plane(run)
        labels = np.array(run.watched.clusters["cluster"])
        for label in np.unique(labels):
            own = points[labels == label]
            look = {"color": _COLOURS[label % len(_COLOURS)], "marker": markers[label % 8]}
            axis.scatter(own[:, 0], own[:, 1], s=22, alpha=0.8, **look)
        axis.set_title(f"{run.recorded.name}, {labels.max() + 1} clusters")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second")
    _save(figure, path)


def distribution(samples: Mapping[str, Values], path: Path, label: str) -> None:
    """Cumulative distributions (figure 6)."""
    figure, axis = plt.subplots(figsize=(_WIDTH, 3.0))
    for (name, values), dash in zip(samples.items(), _DASHES, strict=False):
        shares = np.arange(1, len(values) + 1) / len(values)
        axis.step(np.sort(values) * 100, shares, where="post", label=name, linestyle=dash)
    axis.set_xlim(0, 100)
    axis.set_xlabel(label)
    axis.set_ylabel("share of candidates")
    axis.legend(frameon=False, loc="lower right")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
