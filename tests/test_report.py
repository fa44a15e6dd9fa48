"""The report: what the table adds up, and the object that programs read."""

import io
import json

import pytest
from rich.console import Console

from chameleon_ray.networks import network
from chameleon_ray.report import mean_gain, mean_versus_torch, report, to_json
from chameleon_ray.results import LayerResult, NetworkResult

LAYERS = network("resnet18")[:2]  # used 3 times and once
TOP = ["network", "env", "policy", "seed", "device", "wall_seconds", "startup_seconds"]
TOP += ["phase_seconds", "layers"]
ROW = ["layer", "task", "uses", "space_size", "measurements", "outcomes", "default_seconds"]
ROW += ["best_seconds", "torch_seconds", "gflops", "default_won", "best_config"]


def layer_result(number=0, **changes):
    """A layer that went well, but for the changes."""
    values = {
        "layer": LAYERS[number],
        "space_size": 75_600,
        "measurements": 64,
        "outcomes": {"ok": 60, "build_error": 3, "crashed": 1},
        "default_seconds": 4e-3,
        "best_seconds": 2e-3,
        "torch_seconds": 3e-3,
        "default_won": False,
        "best_config": {"tile_f": (2, 4, 4), "auto_unroll": (16,)},
    }
    return LayerResult(**(values | changes))


def result(*layers, **changes):
    """A run of these layers."""
    values = {
        "network": "resnet18",
        "env": "cpu",
        "policy": "chameleon",
        "seed": 0,
        "device": "znver4, 2 cores",
        "wall_seconds": 42.0,
        "startup_seconds": 10.0,
        "phase_seconds": {"explore": 2.0, "build": 6.0, "run": 8.0},
        "layers": layers or (layer_result(), layer_result(1, best_seconds=1e-3)),
        "run": "runs/one",
    }
    return NetworkResult(**(values | changes))


def shown(of):
    """The report as text."""
    console = Console(file=io.StringIO(), force_terminal=False)
    report(of, console)
    return console.file.getvalue()


def row_of(text, start):
    """The cells of the row that starts so."""
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_rows_and_totals():
    """Totals are weighted by uses, means are geometric, shares are of the tuned network."""
    text = shown(result())
    assert row_of(text, "1  512->512")[4:] == [
        *["3", "64", "4.000", "2.000", "115.6", "2.00x", "3.000", "1.50x", "86%"]
    ]
    assert row_of(text, "all, by uses")[3:7] == ["4", "128", "16.00", "7.000"]
    assert row_of(text, "all, by uses")[8:] == ["2.29x", "12.00", "1.71x", "100%"]
    assert row_of(text, "geometric mean")[2:] == ["2.83x", "2.12x"]
    assert mean_gain(result()) == pytest.approx(8**0.5)
    assert mean_versus_torch(result()) == pytest.approx(4.5**0.5)


def test_what_stands_below_the_table():
    """Defaults that won, failures by kind, time by phase, and where it all lies."""
    text = shown(result(layer_result(default_won=True), layer_result(1)))
    assert "The default configuration won on 1 of 2 layers (marked *)." in text
    assert "2.000*" in text
    assert "8 of 128 measurements failed: 6 build_error, 2 crashed." in text
    assert "Time: 42 s, 10 s of it to start; 0.25 s for each measurement." in text
    assert "explore 12%, sample 0%, fit 0%, build 38%, run 50%, other 0%" in text
    assert "chameleon-ray show runs/one" in text


def test_nothing_is_cut_off_without_a_terminal():
    """In a file the table is as wide as it needs."""
    assert "…" not in shown(result())


def test_a_stopped_layer_is_told():
    """A layer without a time has dashes and its reason, and the network no total."""
    stopped = layer_result(
        measurements=16,
        outcomes={"crashed": 16},
        default_seconds=None,
        best_seconds=None,
        torch_seconds=None,
        best_config={},
        message="nothing valid [16 crashed]",
    )
    text = shown(result(stopped, layer_result(1), finished=False))
    assert row_of(text, "1  512->512")[6:] == ["-"] * 7
    assert "Layer 1 (512->512 3x3 @7): nothing valid [16 crashed]." in text
    assert row_of(text, "all, by uses")[5:] == ["-"] * 7
    assert "ended before all measurements" in text


def test_a_simulated_device_is_labelled():
    """The device stands in the title, and torch has no time there."""
    text = shown(result(layer_result(torch_seconds=None), device="simulated CPU [2 cores]"))
    assert text.startswith("resnet18 on simulated CPU [2 cores]")
    assert mean_versus_torch(result(layer_result(torch_seconds=None))) is None


def test_json_has_the_promised_keys_first():
    """The keys that programs were promised, in order; more may follow."""
    value = to_json(result())
    assert list(value)[: len(TOP)] == TOP
    assert list(value["phase_seconds"]) == ["explore", "sample", "fit", "build", "run", "other"]
    assert list(value["layers"][0])[: len(ROW)] == ROW
    assert value["layers"][0]["best_config"] == {"tile_f": [2, 4, 4], "auto_unroll": [16]}
    assert value["layers"][0]["gflops"] == pytest.approx(115.605504)


def test_json_holds_finite_numbers_only():
    """What is missing or not a number becomes null."""
    bad = layer_result(default_seconds=float("nan"), torch_seconds=float("inf"), best_seconds=None)
    value = to_json(result(bad, wall_seconds=float("nan"), phase_seconds={"fit": float("inf")}))
    text = json.dumps(value, allow_nan=False)
    assert json.loads(text)["wall_seconds"] is None
    assert value["layers"][0]["default_seconds"] is None
    assert value["phase_seconds"]["fit"] is None
    assert "\n" not in text


@pytest.mark.parametrize("words", ["each other; what ships: 8 measurements", "nothing", ""])
def test_what_was_learned_from(words):
    """A line, unless nobody knows."""
    assert ("Layers learn from" in shown(result(learned_from=words))) == bool(words)
    assert not words or f"Layers learn from {words}." in shown(result(learned_from=words))
