"""The live table on a terminal, and plain lines elsewhere."""

import dataclasses
import io

import pytest
from rich.console import Console

from chameleon_ray.live import PlainLines, live, table
from chameleon_ray.networks import network
from chameleon_ray.results import LayerProgress, Progress

LAYERS = network("resnet18")


def progress(measurements, *, elapsed=10.0, doing="measuring", best=None, left=None):
    """A moment of a run of all layers, each with so many measurements."""
    rows = tuple(
        LayerProgress(
            layer=layer,
            trials=64,
            measurements=measurements,
            default_seconds=2e-3,
            best_seconds=best,
            doing=doing,
        )
        for layer in LAYERS
    )
    return Progress(
        layers=rows, elapsed_seconds=elapsed, seconds_left=left, device="a box (simulated)"
    )


def console(*, terminal):
    """A console that writes into a string."""
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, height=40)


def written(to):
    """What a console has written."""
    return to.file.getvalue()


def test_table_has_a_row_per_layer_and_a_bar():
    """Number, name, count, speed, gain, what it does, the time left and the device."""
    out = console(terminal=False)
    out.print(table(progress(32, best=1e-3, left=100.0)))
    lines = written(out).splitlines()
    rows = [line for line in lines if "32/64" in line]
    assert len(rows) == len(LAYERS)
    assert rows[3].split() == [
        "4",
        "256->256",
        "3x3",
        "@14",
        "32/64",
        "231.2",
        "2.00x",
        "measuring",
    ]
    assert "a box (simulated)" in lines[0]
    assert "384/768" in lines[-1]
    assert "10 s, about 1 min 40 s left" in lines[-1]


def test_table_before_the_first_measurement():
    """Nothing is known yet, and nothing is made up."""
    out = console(terminal=False)
    rows = tuple(LayerProgress(layer=layer, trials=64) for layer in LAYERS)
    out.print(table(Progress(layers=rows, elapsed_seconds=0.1)))
    assert "waiting" in written(out)
    assert "left" not in written(out)


def test_terminal_shows_one_table():
    """On a terminal the table is drawn again in place."""
    out = console(terminal=True)
    with live(out) as on_progress:
        on_progress(progress(1))
        on_progress(progress(2, best=1e-3))
    assert "2/64" in written(out)


def test_terminal_shows_nothing_before_the_first_progress():
    """A bad option is told without a table above it."""
    out = console(terminal=True)
    with pytest.raises(ZeroDivisionError), live(out):
        raise ZeroDivisionError
    assert not written(out).strip()


def test_terminal_takes_no_notice_of_what_comes_late():
    """The thread that reports progress may be a little behind."""
    out = console(terminal=True)
    with live(out) as on_progress:
        on_progress(progress(1))
    length = len(written(out))
    on_progress(progress(2))
    assert len(written(out)) == length


def test_lines_are_few():
    """A day at four calls a second gives a log that a person can read."""
    out = console(terminal=False)
    with live(out) as on_progress:
        assert isinstance(on_progress, PlainLines)
        for tick in range(0, 4 * 86_400, 40):
            on_progress(progress(10, elapsed=tick / 4, best=1.0 / (tick + 1)))
    assert 20 < len(written(out).splitlines()) < 300


def test_lines_in_between_are_seconds_apart():
    """The first comes at once, the next when some seconds have passed."""
    out = console(terminal=False)
    lines = PlainLines(out)
    for tenth in range(200):
        lines(progress(1, elapsed=tenth / 10))
    device, *between = written(out).splitlines()
    assert device == "on a box (simulated)"
    assert [line.split(":")[0] for line in between] == ["0.0 s", "5.0 s", "10 s", "15 s"]


def test_every_layer_that_ends_has_a_line():
    """An end is told at once, and once."""
    out = console(terminal=False)
    lines = PlainLines(out)
    lines(progress(1, elapsed=0.0))
    ended = progress(64, elapsed=0.1, doing="done", best=1e-3)
    one = dataclasses.replace(ended, layers=(ended.layers[0], *progress(1).layers[1:]))
    for moment in (one, one, ended, ended):
        lines(moment)
    done = [line for line in written(out).splitlines() if line.endswith("done")]
    assert len(done) == len(LAYERS)
    assert done[0] == (
        "0.1 s: layer 1 (512->512 3x3 @7): 64/64 measured, 231.2 GFLOP/s, 2.00x the default, done"
    )


def test_a_line_names_the_layer_that_improved_most():
    """One layer a line, so that lines stay short."""
    out = console(terminal=False)
    lines = PlainLines(out)
    first = progress(1, elapsed=0.0, best=1e-3)
    lines(first)
    better = dataclasses.replace(first.layers[6], best_seconds=5e-4)
    layers = (*first.layers[:6], better, *first.layers[7:])
    lines(dataclasses.replace(first, layers=layers, elapsed_seconds=6.0))
    assert written(out).splitlines()[-1].startswith("6.0 s: 12/768 measured; layer 7 (128->128")
