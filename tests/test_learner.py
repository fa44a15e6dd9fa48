"""Layers of a run that learn: of what they were given, and of each other."""

import contextlib
import shutil
import time

import psutil
import pytest
from journals import rows

from chameleon_ray import tune
from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.learner import Learner
from chameleon_ray.learning.reading import Experience, learn_from
from chameleon_ray.networks import network
from chameleon_ray.records import read_records
from chameleon_ray.tasks import Target

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

LAYERS = {layer.index: layer.task for layer in network("resnet18")}
KIND = {"target": Target(lanes=16, cores=2), "machine": "simulated CPU, 2 cores, 16 lanes"}


def a_run(folder, **how):
    """Two layers on the simulated CPU."""
    return tune(
        "resnet18", **{"env": "simulated", "layers": [4, 7], "trials": 24, **how}, run=folder
    )


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A run in which nothing was learned; its folder."""
    folder = tmp_path_factory.mktemp("runs") / "cold"
    a_run(folder, cold=True)
    return folder


def past(run, layer, round_, experience=None):
    """What a learner says, asked in this process."""
    return Learner(run=run, **KIND).past(experience or Experience(), LAYERS[layer], round_)


class TestLearner:
    """What a layer is taught."""

    def test_of_the_other_layers_and_not_of_itself(self, cold):
        """What it has measured itself, its search knows already."""
        known = past(cold, 4, 0)
        assert known.used == (f"this run, {LAYERS[7].key}",)

    def test_asked_again_it_says_the_same_though_more_was_measured(self, cold, tmp_path):
        """So that a run that goes on takes the same way."""
        run = tmp_path / "run"
        shutil.copytree(cold, run, ignore=shutil.ignore_patterns("lessons-*"))
        parts = sorted(run.glob("records-*.parquet"))
        later = [part.rename(tmp_path / part.name) for part in parts[len(parts) // 2 :]]
        before = past(run, 4, 0)
        for part in later:
            part.rename(run / part.name)
        again, newer = past(run, 4, 0), past(run, 4, 1)
        assert again.digest == before.digest != newer.digest

    def test_nothing_measured_nothing_taught(self, tmp_path):
        """The first layer of a first run begins cold."""
        assert past(tmp_path, 4, 0) is None

    def test_of_what_it_was_given(self, cold, tmp_path):
        """Also of the same layer in an earlier run: nobody knows more of it."""
        known = past(tmp_path, 4, 0, learn_from([str(cold)]))
        assert known.used == tuple(f"cold, {LAYERS[at].key}" for at in (4, 7))


class TestRuns:
    """Whole runs that learn."""

    def test_one_that_goes_on_measures_what_it_would_have_measured(self, cold, tmp_path):
        """Half of the way, then all of it: no measurement is made twice, and none is another."""
        whole, halves = tmp_path / "whole", tmp_path / "halves"
        given = [str(cold)]
        a_run(whole, learn_from=given, layers=[7])
        a_run(halves, learn_from=given, layers=[7], trials=12)
        a_run(halves, learn_from=given, layers=[7])
        assert rows(halves) == rows(whole)

    def test_layers_that_learn_from_each_other_go_on_without_measuring_twice(self, tmp_path):
        """Which layer measures when is chance, and what each was taught is in the folder."""
        run = tmp_path / "run"
        a_run(run)
        before = rows(run)
        assert list(run.glob("lessons-*.parquet"))
        a_run(run)
        assert rows(run) == before
        a_run(run, trials=32)
        assert before <= rows(run)
        assert max(rows(run).values()) == 1

    def test_a_learner_ends_with_its_run(self, tmp_path):
        """Also in a Ray that goes on."""
        learners = []

        def ended_soon():
            for _ in range(200):
                if not processes():
                    return
                time.sleep(0.1)
            pytest.fail(f"still there: {processes()}")

        def look(progress):
            del progress
            learners.extend(p for p in processes() if p not in learners)

        def is_learner(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                running = process.status() != psutil.STATUS_ZOMBIE
                return running and process.name().startswith("ray::Learner")
            return False

        def processes():
            return [p for p in psutil.Process().children(recursive=True) if is_learner(p)]

        ended_soon()
        a_run(tmp_path / "run", trials=8, policy="random", on_progress=look)
        assert len(learners) == 1
        ended_soon()

    def test_a_first_measurement_that_was_learned(self, cold, tmp_path):
        """After the default comes the best of the run before, timed anew."""
        run = tmp_path / "run"
        (layer,) = a_run(run, learn_from=[str(cold)], layers=[7], trials=5).layers
        found = [r.measurement for r in read_records(run)[0] if r.measurement.purpose.counted]
        known = [
            r.measurement
            for r in read_records(cold)[0]
            if r.measurement.task == LAYERS[7].key and r.measurement.purpose.counted
        ]
        best = min((m for m in known if m.ok), key=lambda m: m.seconds)
        assert found[1].config == best.config
        assert layer.best_seconds <= best.seconds

    def test_more_in_the_folder_that_it_learns_from_changes_nothing(self, cold, tmp_path):
        """It goes on with what it began with, and so measures nothing twice."""
        runs = tmp_path / "runs"
        shutil.copytree(cold, runs / "first")
        how = {"learn_from": str(runs), "layers": [7]}
        a_run(runs / "mine", trials=5, **how)
        before = rows(runs / "mine")
        a_run(runs / "other", cold=True, trials=5)
        (layer,) = a_run(runs / "mine", trials=10, **how).layers
        assert layer.measurements == 10
        assert before <= rows(runs / "mine")

    def test_another_past_is_another_run(self, cold, tmp_path):
        """Going on without what it began with would lead elsewhere: it is refused, in words."""
        run = tmp_path / "run"
        a_run(run, learn_from=[str(cold)], layers=[7], trials=5)
        with pytest.raises(RunFolderError, match="learns_from is 'each other; --learn-from: 4"):
            a_run(run, layers=[7], trials=5)
        with pytest.raises(RunFolderError, match="and 'nothing' here"):
            a_run(run, layers=[7], trials=5, cold=True)

    def test_a_place_that_teaches_nothing_is_refused_before_anything_starts(self, tmp_path):
        """And no run folder is left behind."""
        with pytest.raises(SettingsError, match="--learn-from"):
            a_run(tmp_path / "run", learn_from=[str(tmp_path / "nowhere")])
        assert not (tmp_path / "run").exists()
