"""Comparisons: kept search by search, gone on with after a kill, the same in any order."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from chameleon_ray.compare import compare, curves
from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.measure.recorded import kernel_of, load_recorded
from chameleon_ray.presets import load_policy
from chameleon_ray.replay import replay
from chameleon_ray.searches import (
    Search,
    Searches,
    SearchKey,
    policy_digest,
    space_digest,
)
from chameleon_ray.settings import (
    GreedySettings,
    MeasuredSettings,
    Policy,
    PpoSettings,
    RandomSettings,
)

RANDOM = Policy(
    initial=4,
    explorer=RandomSettings(draws=4),
    sampler=GreedySettings(batch=4, epsilon=0),
    cost_model=MeasuredSettings(),
)


@pytest.fixture
def path(tmp_path):
    """A small recorded space as a file: a valley in two knobs, with failures."""
    cache = {}
    for a in range(8):
        for b in range(8):
            time_ms = 1.0 + (a - 5) ** 2 + (b - 2) ** 2
            cache[f"{a},{b}"] = {"a": a, "b": b, "time": "InvalidConfig" if a == b else time_ms}
    file = tmp_path / "valley_cpu.json"
    tune_params = {"a": list(range(8)), "b": list(range(8))}
    file.write_text(json.dumps({"tune_params": tune_params, "cache": cache}))
    return file


def key(**changes):
    """Names a search."""
    known = {
        "space": "s",
        "space_digest": "1",
        "policy": "p",
        "policy_digest": "2",
        "seed": 0,
        "trials": 4,
    }
    return SearchKey(**known | changes)


def search(of):
    """A finished search."""
    return Search(
        key=of,
        kernel="s",
        reference_seconds=1e-3,
        best_seconds=(None, 3e-3, 2e-3),
        outcomes={"ok": 2, "InvalidConfig": 1},
        phase_seconds={"fit": 0.5},
        device="a device",
        versions={"ray": "2"},
    )


def test_a_search_comes_back_as_it_was_kept(tmp_path):
    """Failures before the first success, maps and text included."""
    store = Searches(tmp_path / "out" / "searches")
    assert store.find(key()) is None
    assert store.all() == []
    store.write(search(key()))
    assert store.find(key()) == search(key())
    assert store.all() == [search(key())]


@pytest.mark.parametrize(
    "change",
    [{"space_digest": "x"}, {"policy_digest": "x"}, {"seed": 1}, {"trials": 5}, {"policy": "x"}],
)
def test_a_search_is_found_only_by_all_that_it_depends_on(tmp_path, change):
    """Other times, other settings, another seed or budget: another search."""
    store = Searches(tmp_path)
    store.write(search(key()))
    assert store.find(key(**change)) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_search_cut_off_on_disk_is_as_one_not_there(tmp_path, share):
    """So it is searched again, and the others are read."""
    store = Searches(tmp_path)
    store.write(search(key()))
    store.write(search(key(seed=1)))
    file = tmp_path / key().file
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert store.find(key()) is None
    assert store.all() == [search(key(seed=1))]


def test_any_tool_reads_the_folder_as_one_table(tmp_path):
    """Also after a writer was killed half way."""
    store = Searches(tmp_path)
    store.write(search(key()))
    store.write(search(key(seed=1)))
    (tmp_path / f".{key(seed=2).file}.4711.tmp").write_bytes(b"PAR1")
    assert pq.read_table(tmp_path).num_rows == 2


def test_a_folder_that_cannot_hold_searches_is_told(tmp_path):
    """A file in the place of the folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="--out"):
        Searches(tmp_path / "file").write(search(key()))


def test_a_digest_changes_with_what_decides_and_not_with_what_describes():
    """A new comment in a preset repeats nothing; a new number does."""
    assert policy_digest(replace(RANDOM, description="x", measurements=7)) == policy_digest(RANDOM)
    assert policy_digest(replace(RANDOM, initial=5)) != policy_digest(RANDOM)


def test_a_space_with_another_time_is_another_space(path):
    """Its digest follows the times."""
    one = load_recorded(path)
    other = replace(one, seconds=np.where(one.seconds == np.nanmin(one.seconds), 1.0, one.seconds))
    assert space_digest(one) == space_digest(load_recorded(path))
    assert space_digest(one) != space_digest(other)


def test_the_kernel_is_what_its_file_says_or_the_name_before_the_device(path):
    """As the recorded spaces are named."""
    space = load_recorded(path)
    named = [replace(space, kernel="", name=name) for name in ("gemm_RTX_2080_Ti", "conv")]
    assert [kernel_of(one) for one in named] == ["gemm", "conv"]
    assert kernel_of(replace(space, kernel="Xgemm", name="A100")) == "Xgemm"


@pytest.mark.parametrize(
    ("names", "seeds", "option"),
    [(["a", "a"], [0], "--policy"), ([], [0], "--policy"), (["a"], [1, 1], "--seeds")],
)
def test_what_cannot_be_told_apart_is_refused(path, tmp_path, names, seeds, option):
    """Before anything is started."""
    policies = [(name, RANDOM) for name in names]
    with pytest.raises(SettingsError, match=option):
        compare([load_recorded(path)], policies, seeds=seeds, trials=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_comparison_is_its_searches_and_repeats_none(path, tmp_path, monkeypatch):
    """The same numbers as replays one by one; what is missing is searched, and only that."""
    recorded, policies = load_recorded(path), [("b", RANDOM), ("a", replace(RANDOM, initial=8))]
    told = []

    def run(seeds):
        told.clear()
        return compare(
            [recorded],
            policies,
            seeds=seeds,
            trials=12,
            out=tmp_path / "out",
            on_progress=told.append,
        )

    found = run([0, 1])
    assert [(s.key.policy, s.key.seed) for s in found] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    alone = replay(recorded, policies[0][1], name="b", trials=12, seed=1)
    assert found[1].best_seconds == alone.best_seconds
    assert [s.done for s in told] == [0, 1, 2, 3, 4]
    next((tmp_path / "out").rglob("search-*.parquet")).unlink()
    assert run([0, 1]) is not None
    assert [(s.kept, s.done) for s in told] == [(3, 3), (3, 4)]
    monkeypatch.setattr("chameleon_ray.compare._in_tasks", None)  # nothing is started
    again = run([0, 1])
    assert [c.best_seconds for c in curves(again)] == [c.best_seconds for c in curves(found)]
    assert told[-1].kept == 4


@pytest.mark.ray
@pytest.mark.slow
def test_an_agent_learns_within_a_task(path, tmp_path):
    """RLlib builds in a worker of Ray's, and finds there what it finds in this process."""
    policy = Policy(
        initial=8, explorer=PpoSettings(episodes=4, waves=2, steps=10, workers=1), measurements=24
    )
    recorded = load_recorded(path)
    (found,) = compare([recorded], [("ppo", policy)], seeds=[3], trials=24, out=tmp_path / "out")
    assert len(found.best_seconds) == 24
    assert found.phase_seconds["explore"] > 0


KILLED = """
import sys
from pathlib import Path
from chameleon_ray.compare import compare
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.presets import load_policy

if __name__ == "__main__":
    compare([load_recorded(sys.argv[1])], [load_policy("random")], seeds=range(4000), trials=60,
            out=Path(sys.argv[2]))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_loses_only_what_was_in_flight(path, tmp_path, ending):
    """Every file is a whole search, and going on takes them as they are."""
    script, out = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen([sys.executable, script, path, out], env=environment)
    try:
        while len(list(out.rglob("search-*.parquet"))) < 5 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(ending)
        process.wait(60)
    finally:
        process.kill()
    kept = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("search-*.parquet")}
    assert 5 <= len(kept) < 4000
    searches = {s.key.seed: s for s in Searches(out / "searches").all()}
    assert len(searches) == len(kept)
    told, new = [], min(set(range(4000)) - set(searches))
    found = compare(
        [load_recorded(path)],
        [load_policy("random")],
        seeds=[*searches, new],
        trials=60,
        out=out,
        on_progress=told.append,
    )
    assert [(s.kept, s.done) for s in told] == [(len(kept), len(kept)), (len(kept), len(kept) + 1)]
    assert found[:-1] == list(searches.values())
    assert kept == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in kept}
