"""Parallel coordinates as SVG: an axis in each row, and a line from top to bottom per sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chameleon_ray.page.charts import WIDTH, Drawing

_LEFT, _RIGHT, _TOP, _ROW = 14.0, 14.0, 30.0, 42.0
_LEGEND_STEP = 118.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One row.

    Attributes:
        name: What stands above it.
        ticks: Places from 0 to 1, and what stands there.
    """

    name: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """One line.

    Attributes:
        places: From 0 to 1 on each axis, from top to bottom.
        colour: Number of its class.
        name: For the legend; of the lines of one name the first is shown there.
        faint: Whether it is one of many.
    """

    places: Sequence[float]
    colour: int
    name: str = ""
    faint: bool = False


def parallel(
    name: str, title: str, description: str, axes: Sequence[Axis], strands: Sequence[Strand]
) -> str:
    """The chart; what comes last is drawn on top."""
    height = _TOP + len(axes) * _ROW + 6
    drawing = Drawing(name, title, description, height)
    for row, axis in enumerate(axes):
        _draw_axis(drawing, axis, _height(row))
    for strand in strands:
        path = "L".join(
            f"{_across(place):.5g} {_height(row):.5g}" for row, place in enumerate(strand.places)
        )
        look = f"line c{strand.colour}{' faint' if strand.faint else ''}"
        drawing.add("path", d=f"M{path}", class_=look)
    named = {strand.name: strand.colour for strand in strands if strand.name}
    for at, (text, colour) in enumerate(named.items()):
        x = _LEFT + at * _LEGEND_STEP
        drawing.add("line", x1=x, x2=x + 18, y1=12, y2=12, class_=f"line c{colour}")
        drawing.add("text", text, x=x + 22, y=16)
    return drawing.text()


def _draw_axis(drawing: Drawing, axis: Axis, y: float) -> None:
    drawing.add("line", x1=_across(0), x2=_across(1), y1=y, y2=y, class_="axis")
    drawing.add("text", axis.name, x=_across(0), y=y - 8, class_="name")
    for place, text in axis.ticks:
        x = _across(place)
        anchor = "start" if place < 0.05 else "end" if place > 0.95 else "middle"
        drawing.add("line", x1=x, x2=x, y1=y - 3, y2=y + 3, class_="axis")
        drawing.add("text", text, x=x, y=y + 14, text_anchor=anchor)


def _height(row: int) -> float:
    return _TOP + row * _ROW + 16


def _across(place: float) -> float:
    return _LEFT + place * (WIDTH - _LEFT - _RIGHT)
