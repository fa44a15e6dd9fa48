"""Kernel Tuner reads what we write, and we read what it writes."""

import gzip
import json
import shutil

import numpy as np
import pytest

from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.networks import network
from chameleon_ray.record import write_run
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space, template_version

kernel_tuner = pytest.importorskip(
    "kernel_tuner", reason="an optional dependency: pip install '.[peers]'"
)
from kernel_tuner import util  # noqa: E402 - where it is installed
from kernel_tuner.file_utils import store_output_file  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:None of the tunable parameters specify thread")

LAYER = network("resnet18")[1]
TARGET = Target(lanes=512, cores=2)  # wide registers make a small space
SPACE = design_space(LAYER.task, TARGET)

KNOBS = {"tile": [1, 2, 8], "unroll": [1, 2, 4], "order": ["ij", "ji"]}
SOURCE = """
#if tile == 8
#error uses too much shared data
#endif
float work(int n) { return 0.25f * tile * unroll * n; }
"""


def recorded_as(path):
    """What we read of a file: each config's milliseconds, or the name of its failure."""
    recorded = load_recorded(path)
    values = list(recorded.tunables.values.values())
    rows = [tuple(v[i] for v, i in zip(values, row, strict=True)) for row in recorded.configs]
    found = zip(rows, recorded.seconds, recorded.failures, strict=True)
    return {row: failure or pytest.approx(1e3 * seconds) for row, seconds, failure in found}


@pytest.fixture
def ours(tmp_path):
    """A cache of all of a layer's configs, every ninth of which failed, as `record` writes it."""
    run = tmp_path / "run"
    run.mkdir()
    manifest = {"network": "resnet18", "env": "cpu", "policy": "random", "seed": 0, "layers": [2]}
    (run / "run.json").write_text(json.dumps(manifest))
    machine = f"Some CPU, {TARGET.cores} cores, {TARGET.lanes} lanes"
    journal = Journal(run, Provenance(machine=machine, template=template_version(TARGET)))
    journal.append(
        [
            Measurement(
                task=LAYER.task.key,
                config=SPACE.describe(config),
                purpose=Purpose.SEARCH,
                outcome=Outcome.BUILD_TIMEOUT if n % 9 == 8 else Outcome.OK,
                repeat_seconds=() if n % 9 == 8 else (1e-3 * (n + 1),),
                build_seconds=0.5,
            )
            for n, config in enumerate(SPACE.all_valid())
        ]
    )
    (written,) = write_run(run, tmp_path)
    path = tmp_path / "plain.json"  # Kernel Tuner reads no gzip
    path.write_bytes(gzip.decompress(written.path.read_bytes()))
    return path


def test_its_reader_takes_our_file(ours):
    """Every config, its times and its kinds of failure."""
    cache = util.read_cache(str(ours), open_cache=False)["cache"]
    assert len(cache) == len(SPACE.all_valid())
    failed = [entry["__error__"] for entry in cache.values() if "__error__" in entry]
    assert len(failed) == len(cache) // 9
    assert {type(error) for error in failed} == {util.CompilationFailedConfig}


def test_its_simulation_mode_searches_our_file(ours, tmp_path):
    """It finds our times and our best; what it then writes as T4 results is what we wrote."""
    known = recorded_as(ours)
    results, env = kernel_tuner.tune_cache(str(ours), quiet=True)
    knobs = json.loads(ours.read_text())["tune_params"]
    times = {tuple(result[name] for name in knobs): result["time"] for result in results}
    assert times == {row: time for row, time in known.items() if not isinstance(time, str)}
    assert env["best_config"]["time"] == pytest.approx(1.0)
    store_output_file(str(tmp_path / "t4.json"), results, knobs)
    assert recorded_as(tmp_path / "t4.json") == times


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A kernel that Kernel Tuner really tunes, in C++: the results, and the cache that it wrote."""
    if not shutil.which("g++"):
        pytest.skip("no g++")
    cache = tmp_path_factory.mktemp("tuned") / "work.json"
    results, _ = kernel_tuner.tune_kernel(
        "work",
        SOURCE,
        1,
        [np.int32(1)],
        KNOBS,
        restrictions=["tile * unroll <= 16"],
        lang="C",
        iterations=1,
        cache=str(cache),
        quiet=True,
    )
    return results, cache


def expected(failure):
    """What the kernel says of itself, where the restriction lets it."""
    return {
        (tile, unroll, order): failure if tile == 8 else 0.25 * tile * unroll
        for tile in KNOBS["tile"]
        for unroll in KNOBS["unroll"]
        for order in KNOBS["order"]
        if tile * unroll <= 16
    }


def test_we_read_the_cache_that_it_wrote(tuned):
    """Times, failures by name, and no config that its restrictions forbid."""
    _, cache = tuned
    assert recorded_as(cache) == expected("CompilationFailedConfig")
    assert list(load_recorded(cache).tunables.values) == list(KNOBS)


def test_we_read_the_t4_results_that_it_wrote(tuned, tmp_path):
    """The same space, whose failures go by the names of that format."""
    results, _ = tuned
    store_output_file(str(tmp_path / "t4.json"), results, KNOBS)
    assert recorded_as(tmp_path / "t4.json") == expected("compile")
