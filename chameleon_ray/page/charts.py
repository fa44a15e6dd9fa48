"""Charts as SVG: lines, bars, stacked bars, points. Colours are CSS classes, dark or light."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from chameleon_ray.page.scales import Scale, number

WIDTH = 380  # of every chart, in its own units; the page scales it to its column
COLOURS = 8  # classes c0 to c7 of the style sheet; lines differ in their dashes, too
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 36
_ROW = 14  # from one line of text to the next
_LETTER = 6.3  # width of an average letter
_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: `points` are (x, y), from left to right; `level` makes it a horizontal line at y.

    One without a name is not in the legend; a faint one is one of many.
    """

    name: str
    colour: int
    points: Sequence[tuple[float, float]] = ()
    level: float | None = None
    dashes: str = ""
    steps: bool = False
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of a bar chart: its parts stand end to end, `(colour, length)`; `label` follows."""

    name: str
    parts: Sequence[tuple[int, float]]
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One mark: a dot, or what was chosen, as a diamond, or a cross if it failed."""

    x: float
    y: float
    colour: int
    mark: str = "dot"
    cluster: int | None = None


class Drawing:
    """An SVG with a title and a description, which screen readers tell.

    Args:
        name: Prefix of its ids.
        title: What it shows.
        description: What is to be seen in it.
        height: In its own units.
    """

    def __init__(self, name: str, title: str, description: str, height: float) -> None:
        self.root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {WIDTH} {height:g}",
                "role": "img",
                "class": "chart",
                "aria-labelledby": f"{name}-title {name}-desc",
            },
        )
        for tag, text in (("title", title), ("desc", description)):
            self.add(tag, text, id=f"{name}-{tag}")

    def add(self, tag: str, text: str = "", **attributes: float | str) -> None:
        """One element; `class_` is its class, and other underscores are hyphens."""
        named = {
            key.rstrip("_").replace("_", "-"): f"{v:.5g}" if isinstance(v, int | float) else v
            for key, v in attributes.items()
        }
        child = ET.SubElement(self.root, tag, named)
        if text:
            child.text = printable(text)

    def text(self) -> str:
        """The SVG's source."""
        return ET.tostring(self.root, encoding="unicode", short_empty_elements=True)


def printable(text: str) -> str:
    """The text without what neither XML nor HTML may hold."""
    return _CONTROL.sub("\ufffd", text)


def lines(
    name: str,
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    zero: bool = False,
    log: bool = False,
) -> str:
    """Lines over a common x axis, with a legend if there is more than one."""
    named = [s for s in series if s.name]
    legend = _legend_rows([s.name for s in named]) if len(series) > 1 else []
    top = _TOP + _ROW * len(legend) + 22
    height = top + 150 + _BOTTOM
    drawing = Drawing(name, title, description, height)
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    ys += [s.level for s in series if s.level is not None]
    x_axis = Scale.over(xs, start=_LEFT, end=WIDTH - _RIGHT, whole=True)
    y_axis = Scale.over(ys, start=height - _BOTTOM, end=top, zero=zero, log=log)
    _draw_axes(drawing, x_axis, y_axis, x_label=x_label, y_label=y_label)
    for s in series:
        _draw_line(drawing, s, x_axis, y_axis)
    _draw_legend(drawing, legend, [(s.colour, s.dashes) for s in named], lines=True)
    return drawing.text()


def bars(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Bar],
    *,
    x_label: str,
    legend: Sequence[str] = (),
    one: bool = False,
) -> str:
    """Horizontal bars, a row each; the legend names colours 0, 1, ...; `one` marks 1 on each."""
    keys = _legend_rows(legend)
    top = _TOP + _ROW * len(keys) + (6 if keys else 0)
    height = top + len(rows) * 2.4 * _ROW + _BOTTOM
    drawing = Drawing(name, title, description, height)
    room = max((len(row.label) for row in rows), default=0) * _LETTER + 6
    totals = [math.fsum(length for _, length in row.parts) for row in rows]
    longest = max([*totals, 1e-12])
    x_axis = Scale(low=0.0, high=longest, start=8, end=WIDTH - _RIGHT - room)
    for at, (row, total) in enumerate(zip(rows, totals, strict=True)):
        y = top + at * 2.4 * _ROW
        drawing.add("text", row.name, x=8, y=y + 10, class_="name")
        left = 0.0
        for colour, length in row.parts:
            x, to = x_axis.place(left), x_axis.place(left + length)
            drawing.add(
                "rect", x=x, y=y + 14, width=max(0.0, to - x), height=13, class_=f"bar c{colour}"
            )
            left += length
        if one and x_axis.high > 1:
            x = x_axis.place(1.0)
            drawing.add("line", x1=x, x2=x, y1=y + 14, y2=y + 29, class_="one")
        drawing.add("text", row.label, x=x_axis.place(total) + 5, y=y + 25)
    bottom = height - _BOTTOM + 4
    _draw_bottom(drawing, x_axis, x_label, bottom)
    _draw_legend(drawing, keys, [(n, "") for n in range(len(legend))], lines=False)
    return drawing.text()


def points(
    name: str,
    title: str,
    description: str,
    marks: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    legend: Sequence[str],
) -> str:
    """Marks on a plane; a cluster's marks are tied to its middle, so that colour is not needed."""
    top = _TOP + _ROW + 22
    height = top + 240 + _BOTTOM
    drawing = Drawing(name, title, description, height)
    x_axis = Scale.over([m.x for m in marks], start=_LEFT, end=WIDTH - _RIGHT)
    y_axis = Scale.over([m.y for m in marks], start=height - _BOTTOM, end=top)
    _draw_axes(drawing, x_axis, y_axis, x_label=x_label, y_label=y_label)
    for cluster in sorted({m.cluster for m in marks if m.cluster is not None}):
        members = [m for m in marks if m.cluster == cluster]
        x, y = (
            math.fsum(v) / len(members) for v in zip(*((m.x, m.y) for m in members), strict=True)
        )
        for m in members:
            drawing.add(
                "line",
                x1=x_axis.place(x),
                y1=y_axis.place(y),
                x2=x_axis.place(m.x),
                y2=y_axis.place(m.y),
                class_=f"tie c{m.colour}",
            )
    for m in marks:
        _draw_mark(drawing, m.mark, x_axis.place(m.x), y_axis.place(m.y), m.colour)
    x = float(_LEFT)
    for mark, text in zip(("dot", "diamond", "cross"), legend, strict=False):
        _draw_mark(drawing, mark, x + 5, _TOP + 6, 0)
        drawing.add("text", text, x=x + 14, y=_TOP + 10)
        x += 30 + len(text) * _LETTER
    return drawing.text()


def _draw_mark(drawing: Drawing, mark: str, x: float, y: float, colour: int) -> None:
    if mark == "dot":
        drawing.add("circle", cx=x, cy=y, r=3, class_=f"dot c{colour}")
    elif mark == "diamond":
        drawing.add("path", d=f"M{x:.5g} {y - 6:.5g}l6 6l-6 6l-6 -6z", class_="chosen")
    else:
        drawing.add("path", d=f"M{x - 5:.5g} {y - 5:.5g}l10 10m0 -10l-10 10", class_="failed")


def _draw_line(drawing: Drawing, s: Series, x_axis: Scale, y_axis: Scale) -> None:
    dashes = {"stroke_dasharray": s.dashes} if s.dashes else {}
    if s.level is not None:
        y = y_axis.place(s.level)
        drawing.add(
            "line", x1=x_axis.start, x2=x_axis.end, y1=y, y2=y, class_=f"line c{s.colour}", **dashes
        )
        return
    steps: list[str] = []
    for x, y in s.points:
        at = f"{x_axis.place(x):.5g}", f"{y_axis.place(y):.5g}"
        steps.append(f"M{at[0]} {at[1]}" if not steps else f"H{at[0]}V{at[1]}")
        if not s.steps and len(steps) > 1:
            steps[-1] = f"L{at[0]} {at[1]}"
    if steps:
        look = f"line c{s.colour}{' faint' if s.faint else ''}"
        drawing.add("path", d="".join(steps), class_=look, **dashes)
    if len(s.points) == 1:
        x, y = s.points[0]
        drawing.add(
            "circle", cx=x_axis.place(x), cy=y_axis.place(y), r=3, class_=f"dot c{s.colour}"
        )


def _draw_axes(
    drawing: Drawing, x_axis: Scale, y_axis: Scale, *, x_label: str, y_label: str
) -> None:
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        drawing.add("line", x1=x_axis.start, x2=x_axis.end, y1=y, y2=y, class_="grid")
        drawing.add("text", number(tick), x=x_axis.start - 5, y=y + 4, text_anchor="end")
    drawing.add("text", y_label, x=4, y=y_axis.end - 10, class_="label")
    _draw_bottom(drawing, x_axis, x_label, y_axis.start)


def _draw_bottom(drawing: Drawing, x_axis: Scale, label: str, y: float) -> None:
    drawing.add("line", x1=x_axis.start, x2=x_axis.end, y1=y, y2=y, class_="axis")
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        drawing.add("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis")
        drawing.add("text", number(tick), x=x, y=y + 15, text_anchor="middle")
    drawing.add("text", label, x=x_axis.end, y=y + 29, text_anchor="end", class_="label")


def _legend_rows(names: Sequence[str]) -> list[list[tuple[int, str, float]]]:
    """The entries, row by row: number, name and x."""
    rows: list[list[tuple[int, str, float]]] = []
    x = math.inf
    for at, name in enumerate(names):
        width = 30 + len(name) * _LETTER
        if x + width > WIDTH:
            rows.append([])
            x = 8.0
        rows[-1].append((at, name, x))
        x += width
    return rows


def _draw_legend(
    drawing: Drawing,
    rows: Sequence[Sequence[tuple[int, str, float]]],
    looks: Sequence[tuple[int, str]],
    *,
    lines: bool,
) -> None:
    for line, row in enumerate(rows):
        y = _TOP + 6 + line * _ROW
        for at, name, x in row:
            colour, dashes = looks[at]
            if lines:
                more = {"stroke_dasharray": dashes} if dashes else {}
                drawing.add("line", x1=x, x2=x + 18, y1=y, y2=y, class_=f"line c{colour}", **more)
            else:
                drawing.add("rect", x=x, y=y - 5, width=12, height=10, class_=f"bar c{colour}")
            drawing.add("text", name, x=x + 22, y=y + 4)
