"""What a run is doing, while it does it: one table on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chameleon_ray.results import LayerProgress, Progress
from chameleon_ray.text import duration, ratio, speed

_LEAST_SECONDS = 5.0  # between two plain lines
_LATER = 0.05  # and at least this share of what has passed: a day's log stays short


@contextmanager
def live(console: Console | None = None) -> Iterator[Callable[[Progress], None]]:
    """Shows progress on standard error for as long as the context is open.

    The function it gives takes each new `Progress`, from any thread. If the context ends by an
    exception the last table stays on the screen; otherwise the report takes its place.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines(console)
        return
    screen = _Screen(console)
    try:
        yield screen
        screen.replace_by_report()
    finally:
        screen.close()


class _Screen:
    """The table on a terminal: appears with the first progress, so not before a bad option is told.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4)
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, progress: Progress) -> None:
        """Show this; from any thread, and without effect once closed."""
        with self._lock:
            if not self._closed:
                self._live.start()
                self._live.update(table(progress))

    def replace_by_report(self) -> None:
        """The table will vanish on closing."""
        self._live.transient = True

    def close(self) -> None:
        """Show nothing more; the last table stays where it is."""
        with self._lock:
            self._closed = True
            self._live.stop()


def table(progress: Progress) -> RenderableType:
    """The live table: a row per layer, then a bar with the time left."""
    title = f"on {progress.device}" if progress.device else None
    return Group(layers_table(progress.layers, title=title), _bar(progress))


def layers_table(layers: Sequence[LayerProgress], *, title: str | None = None) -> Table:
    """A row per layer: how far it is, and what it is doing."""
    rows = Table(title=title, title_justify="left", box=None, padding=(0, 1), expand=False)
    rows.add_column("#", justify="right", style="dim")
    rows.add_column("layer", no_wrap=True)
    rows.add_column("measured", justify="right")
    rows.add_column("GFLOP/s", justify="right", style="bold")
    rows.add_column("gain", justify="right", style="green")
    rows.add_column("now", no_wrap=True)
    for row in layers:
        rows.add_row(
            str(row.layer.index),
            row.layer.name,
            f"{row.measurements}/{row.trials}",
            speed(row.layer.task.flop, row.best_seconds),
            ratio(row.default_seconds, row.best_seconds),
            Text(row.doing, style="dim" if row.ended or row.doing == "waiting" else "cyan"),
        )
    return rows


def _bar(progress: Progress) -> RenderableType:
    done, total = _counts(progress)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(total=max(total, 1), completed=done, width=30),
        f"{done}/{total}",
        _clock(progress),
    )
    return line


def _counts(progress: Progress) -> tuple[int, int]:
    return sum(r.measurements for r in progress.layers), sum(r.trials for r in progress.layers)


def _clock(progress: Progress) -> str:
    left = progress.seconds_left
    tail = f", about {duration(left)} left" if left is not None and left >= 1 else ""
    return f"{duration(progress.elapsed_seconds)}{tail}"


class PlainLines:
    """Progress as lines for a log: one for each layer that ends, one now and then in between.

    Lines in between come at most every 5 s, and ever more rarely as the run goes on, so that
    their number grows with the logarithm of its length.

    Args:
        console: Where the lines go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._ended: set[int] = set()
        self._best: dict[int, float] = {}
        self._last: float | None = None
        self._device = ""

    def __call__(self, progress: Progress) -> None:
        """Write what is new, if it is time to."""
        with self._lock:
            if progress.device and progress.device != self._device:
                self._device = progress.device
                self._write(f"on {progress.device}")
            for row in progress.layers:
                if row.ended and row.layer.index not in self._ended:
                    self._ended.add(row.layer.index)
                    self._best[row.layer.index] = row.best_seconds or 0.0
                    self._write(f"{_clock(progress)}: layer {_describe(row)}, {row.doing}")
            if self._is_time(progress.elapsed_seconds):
                self._last = progress.elapsed_seconds
                self._write(self._between(progress))

    def _is_time(self, now: float) -> bool:
        return self._last is None or now - self._last >= max(_LEAST_SECONDS, _LATER * now)

    def _between(self, progress: Progress) -> str:
        """All measurements, and the layer that improved most since the last line."""
        done, total = _counts(progress)
        text = f"{_clock(progress)}: {done}/{total} measured"
        better = [
            (self._best.get(row.layer.index, float("inf")) / row.best_seconds, row)
            for row in progress.layers
            if row.best_seconds and row.best_seconds < self._best.get(row.layer.index, float("inf"))
        ]
        if better:
            _, best = max(better, key=lambda pair: pair[0])
            text += f"; layer {_describe(best)}"
        self._best |= {r.layer.index: r.best_seconds for r in progress.layers if r.best_seconds}
        return text

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def _describe(row: LayerProgress) -> str:
    timed = row.default_seconds is not None
    gain = f", {ratio(row.default_seconds, row.best_seconds)} the default" if timed else ""
    flops = speed(row.layer.task.flop, row.best_seconds)
    return (
        f"{row.layer.index} ({row.layer.name}): {row.measurements}/{row.trials} measured, "
        f"{flops} GFLOP/s{gain}"
    )
