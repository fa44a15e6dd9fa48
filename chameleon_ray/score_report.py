"""Score tables: for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from chameleon_ray.scores import EVERYWHERE, Difference, Estimate, Row, Table

WIDTH = 132  # where there is no terminal to ask


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print all tables, and how to read them."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for table in tables:
        console.print(_rich(table))
    if tables:
        for line in legend(tables):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def legend(tables: Sequence[Table]) -> Iterator[str]:
    """What the numbers of the tables are, in sentences."""
    first = tables[0].rows[0].policy
    yield (
        "Score: the shortest time known of the space over the best found after so many attempts, "
        f"failed ones included. To {tables[0].share:.0%}: attempts until that score; a search that "
        "never gets there counts as its budget."
    )
    yield (
        "In brackets: the 95% interval of the mean by bootstrap, over the seeds of a space, over "
        "the kernels for the mean over spaces, where it is too narrow if they are few; none of a "
        "single seed or kernel."
    )
    if any(len(table.rows) > 1 for table in tables):
        yield (
            f"Differences are to {first}, paired by seed (n pairs), with p of the Wilcoxon "
            "signed-rank test after Holm's correction over all differences of the table. Over all "
            "spaces a pair is two means over the same spaces: p then speaks of these spaces, the "
            "interval of others like them."
        )


def markdown(table: Table) -> str:
    """One table, with intervals, without differences."""
    heads = ["policy", *map(str, table.points), f"to {table.share:.0%}", "reached"]
    rows = [[row.policy, *cells(row), f"{row.reached:.0%}"] for row in table.rows]
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])


def title(table: Table) -> str:
    """What a table is of."""
    if table.space == EVERYWHERE:
        kernels = f"{table.kernels} kernel" + ("s" if table.kernels > 1 else "")
        return f"Mean over {table.spaces} spaces of {kernels}"
    seeds = _span([row.seeds for row in table.rows])
    return f"{table.space}, {seeds} seed{'' if seeds == '1' else 's'}"


def _span(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _rich(table: Table) -> RichTable:
    found = RichTable(title=Text(title(table)), title_justify="left", show_lines=True)
    found.add_column("policy", overflow="fold")
    for point in table.points:
        found.add_column(str(point), justify="right")
    found.add_column(f"to {table.share:.0%}", justify="right")
    found.add_column("reached", justify="right")
    for row in table.rows:
        texts = [cell.replace(" [", "\n[") for cell in cells(row)]
        differences = [*(difference_in_words(d, ".3f") for d in row.differences[:-1])]
        differences += [difference_in_words(d, ".0f") for d in row.differences[-1:]]
        if differences:
            texts = [f"{c}\n{d}" for c, d in zip(texts, differences, strict=True)]
        found.add_row(*map(Text, [row.policy, *texts, f"{row.reached:.0%}"]))
    return found


def cells(row: Row) -> list[str]:
    """The scores of a row with their intervals, then the attempts."""
    return [*(_estimate(e, ".3f") for e in row.scores), _estimate(row.attempts, ".0f")]


def _estimate(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:{form}}"
    low, high = (f"{end:{form}}".removeprefix("0") or "0" for end in (estimate.low, estimate.high))
    return f"{estimate.mean:{form}} [{low}, {high}]"


def difference_in_words(difference: Difference, form: str) -> str:
    """A difference with its p and the number of pairs."""
    if difference.mean is None:
        return "no pairs"
    p = "" if difference.p is None else f"\n{_p(difference.p)}, n={difference.n}"
    return f"{difference.mean:+{form}}{p}"


def _p(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"
