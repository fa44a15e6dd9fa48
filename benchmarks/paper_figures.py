"""The figures of both pages, as SVG: text stays text, and nothing in them depends on the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from paper_numbers import Clustered, plane
from paper_searches import Values
from paper_text import ANNEALING, ANNEALING_SAMPLED, EXPLORING, OURS, PAPER, Bars

from chameleon_ray.scores import Estimate

mpl.use("Agg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "chameleon-ray",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.constrained_layout.h_pad": 0.08,
        "grid.alpha": 0.25,
        "figure.facecolor": "white",
    }
)

# Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for those who print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")
_LOOKS: dict[str, dict[str, Any]] = {  # a colour for each family, ours thick
    "chameleon": {"color": _COLOURS[0], "linestyle": "-", "linewidth": 2.6},
    "chameleon, warm": {"color": _COLOURS[2], "linestyle": "-", "linewidth": 2.6},
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
_BARS = {  # of the columns, the colours of their curves where those differ
    ANNEALING: _COLOURS[1],
    EXPLORING: _COLOURS[5],
    ANNEALING_SAMPLED: _COLOURS[4],
    PAPER: _COLOURS[2],
    OURS: _COLOURS[0],
}
_MARKERS = "o^sDvPX*"
_WIDTH = 4.2
_FIRST = 8  # measurements before which no curve is drawn
_GROUPS = 5  # of bars in a row


def quality(curves: Mapping[str, Mapping[str, Values]], path: Path, *, first: int = _FIRST) -> None:
    """Score against measurements, a panel for each space or layer (figures 9 and 12 to 14).

    Args:
        curves: Panel -> policy -> mean score after each attempt.
        path: Where the SVG goes.
        first: The attempt from which on they are drawn.
    """
    every = [values for panel in curves.values() for values in panel.values()]
    worst = min(float(values[min(first, len(values)) - 1 :].min()) for values in every)
    figure, axes = _panels(len(curves), columns=2, size=(_WIDTH, 3.2), beside=1.6, sharey=True)
    for axis, (title, panel) in zip(axes, curves.items(), strict=True):
        for name, values in panel.items():
            look: dict[str, Any] = {"linewidth": 1.4, **_LOOKS.get(name, {})}
            axis.plot(np.arange(1, len(values) + 1), values, label=name, **look)
        axis.set_title(title)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axis.set_xlim(left=first)
        axis.set_ylim(max(0.0, np.floor(worst * 10) / 10), 1.01)
        axis.set_xlabel("measurements, failed ones included")
        axis.set_ylabel("optimum / best found")
    _legend(figure, axes)
    _save(figure, path)


def stacked(bars: Mapping[str, Mapping[str, float]], path: Path, unit: str) -> None:
    """Where the time goes, a bar for each key of `bars` (figures 2 and 11)."""
    figure, axis = plt.subplots(figsize=(7.6, 0.28 * len(bars) + 0.9), layout="constrained")
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    left = np.zeros(len(bars))
    for part, colour in zip(parts, _COLOURS, strict=False):
        widths = np.array([bar.get(part, 0.0) for bar in bars.values()])
        axis.barh(list(bars), widths, left=left, label=part, color=colour)
        left += widths
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(unit)
    _legend(figure, [axis])
    _save(figure, path)


def grouped(bars: Bars, path: Path, label: str) -> None:
    """A group of bars for each key of `bars`, with intervals (figures 7 and 10)."""
    figure, axes, names = _groups(bars, label)
    width = 0.8 / len(names)
    for axis, places, name, means, ends in _each(bars, axes, names):
        colour = _BARS.get(name, _COLOURS[-1])
        axis.bar(
            places, means, width, yerr=ends, label=name, color=colour, error_kw={"linewidth": 0.9}
        )
    _legend(figure, axes)
    _save(figure, path)


def dots(bars: Bars, path: Path, label: str) -> None:
    """The same as marks, where a bar from 0 would say little (figure 10)."""
    figure, axes, names = _groups(bars, label)
    for axis, places, name, means, ends in _each(bars, axes, names):
        look = {"color": _BARS.get(name, _COLOURS[-1]), "marker": _MARKERS[names.index(name) % 8]}
        axis.errorbar(places, means, yerr=ends, label=name, linestyle="", capsize=2, **look)
    _legend(figure, axes)
    _save(figure, path)


def clusters(rounds: Mapping[str, Clustered], path: Path) -> None:
    """A round's candidates and their clusters, on a plane, for each space or layer (figure 5)."""
    figure, axes = _panels(len(rounds), columns=3, size=(3.4, 3.0))
    for axis, (title, found) in zip(axes, rounds.items(), strict=True):
        points, labels = plane(found), np.unique(found.labels, return_inverse=True)[1]
        for label in range(labels.max() + 1):
            own = points[labels == label]
            look = {"color": _COLOURS[label % 8], "marker": _MARKERS[label // 8 % 8]}
            axis.scatter(own[:, 0], own[:, 1], s=22, alpha=0.8, **look)
        axis.set_title(f"{title}, {labels.max() + 1} clusters")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second")
    _save(figure, path)


def distribution(samples: Mapping[str, Values], path: Path, label: str) -> None:
    """Cumulative distributions (figure 6)."""
    figure, axis = plt.subplots(figsize=(_WIDTH + 1, 3.0), layout="constrained")
    for (name, values), dash in zip(samples.items(), _DASHES, strict=False):
        shares = np.arange(1, len(values) + 1) / len(values)
        axis.step(np.sort(values) * 100, shares, where="post", label=name, linestyle=dash)
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 1.01)
    axis.set_xlabel(label)
    axis.set_ylabel("share of times")
    axis.legend(frameon=False, loc="lower right")
    _save(figure, path)


def _groups(bars: Bars, label: str) -> tuple[Any, list[Any], list[str]]:
    """A figure for groups of bars, its axes, a row of groups in each, and the bars' names."""
    names = list(dict.fromkeys(name for group in bars.values() for name in group))
    rows = -(-len(bars) // _GROUPS)
    groups = -(-len(bars) // rows)
    width = max(0.24 * len(names) + 0.3, 0.09 * max(map(len, bars)) + 0.1)
    size = (1.2 + groups * width, 2.6)
    figure, axes = _panels(rows, columns=1, size=size, beside=1.6, sharey=True)
    for row, axis in enumerate(axes):
        shown = list(bars)[row * groups : (row + 1) * groups]
        axis.set_xticks(range(len(shown)), shown)
        axis.set_xlim(-0.6, groups - 0.4)
        axis.grid(visible=False, axis="x")
        axis.set_ylabel(label)
    return figure, axes, names


def _each(
    bars: Bars, axes: Sequence[Any], names: Sequence[str]
) -> Iterator[tuple[Any, Values, str, list[float], Values | None]]:
    """Of each row of groups and name: axis, places, name, means, and the intervals' arms."""
    groups = -(-len(bars) // len(axes))
    for (row, axis), (i, name) in product(enumerate(axes), enumerate(names)):
        shown = list(bars.values())[row * groups : (row + 1) * groups]
        found = [(at, e) for at, group in enumerate(shown) if (e := group.get(name)) is not None]
        places = np.array([at for at, _ in found]) + (i - (len(names) - 1) / 2) * 0.8 / len(names)
        yield axis, places, name, [e.mean for _, e in found], _arms([e for _, e in found])


def _arms(estimates: Sequence[Estimate]) -> Values | None:
    """How far the intervals reach below and above their means, `(2, n)`; None without any."""
    if not any(e.low is not None for e in estimates):
        return None
    below = [0.0 if e.low is None else e.mean - e.low for e in estimates]
    above = [0.0 if e.high is None else e.high - e.mean for e in estimates]
    arms: Values = np.maximum(np.array([below, above]), 0.0)
    return arms


def _panels(
    n: int, *, columns: int, size: tuple[float, float], beside: float = 0.0, sharey: bool = False
) -> tuple[Any, list[Any]]:
    """A figure of `n` panels of a size, in at most so many columns, with room beside them."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns + beside, size[1] * rows),
        squeeze=False,
        sharey=sharey,
        layout="constrained",
    )
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """One legend for all panels, beside them."""
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
