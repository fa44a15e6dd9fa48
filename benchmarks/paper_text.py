"""What both pages are made of: the columns, tables, commands, pictures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chameleon_ray.scores import Estimate

ANNEALING, EXPLORING = "SA (AutoTVM)", "AE"
ANNEALING_SAMPLED, PAPER, OURS = "SA + AS", "AE + AS (CHAMELEON)", "chameleon (ours)"
COLUMNS = {  # of Tables 2 and 3, and ours
    ANNEALING: "autotvm",
    EXPLORING: "adaptive_exploration",
    ANNEALING_SAMPLED: "adaptive_sampling",
    PAPER: "chameleon_paper",
    OURS: "chameleon",
}

Bars = Mapping[str, Mapping[str, Estimate | None]]  # space, layer or network -> column -> value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page's figures go, and how it says who draws them.

    Attributes:
        folder: Of the SVG files; the page lies one above it.
        prefix: Begins their names, so that the pages can share a folder.
        command: Writes the whole page.
        searches: The folder that it is drawn from.
        row: What a row of its tables is about: a space, a layer.
    """

    folder: Path
    prefix: str = ""
    command: str
    searches: str
    row: str

    def file(self, name: str) -> Path:
        """Where a figure goes."""
        return self.folder / f"{self.prefix}{name}.svg"

    def picture(self, name: str, text: str) -> str:
        """A figure in the page; the text is for those who do not see it."""
        return f"![{text}]({self.folder.name}/{self.prefix}{name}.svg)"

    def heading(self, title: str) -> str:
        """A section's heading, and what draws the section."""
        return f"## {title}\n\n*Drawn by `{self.command}` from the searches in `{self.searches}`.*"


def make_command(target: str, variables: Mapping[str, str]) -> str:
    """A target of `make` with those of its variables that are not empty."""
    said = [f"{name}={_quoted(value)}" for name, value in variables.items() if value]
    return " ".join(["make", target, *said])


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else shlex.quote(value)


def told(estimate: Estimate | None, form: str) -> str:
    """A mean with its 95% interval in brackets, where it has one; `-` if there is nothing."""
    if estimate is None:
        return "-"
    ends = (estimate.low, estimate.high)
    if None in ends or estimate.low == estimate.high:
        return f"{estimate.mean:z{form}}"
    low, high = (f"{end:z{form}}" for end in ends)
    return f"{estimate.mean:z{form}} [{_bare(low)}, {_bare(high)}]"


def _bare(number: str) -> str:
    """Without the nought before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", number)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A table whose first columns are text."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def bars_table(first: str, bars: Bars, form: str) -> str:
    """A row for each key of the bars, a column for each of theirs."""
    names = list(dict.fromkeys(name for group in bars.values() for name in group))
    rows = [[key, *(told(group.get(n), form) for n in names)] for key, group in bars.items()]
    return markdown_table([first, *names], rows)


def unit_of(longest_seconds: float) -> tuple[str, float]:
    """What to tell times in, and how many seconds it has."""
    return ("minutes", 60.0) if longest_seconds >= 120 else ("seconds", 1.0)
