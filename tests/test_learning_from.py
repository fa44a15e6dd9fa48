"""`--learn-from`: runs, folders of them, recorded spaces and files of records as sources."""

import json
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_ray.errors import RunFolderError, SettingsError, UnknownNameError
from chameleon_ray.learning.agent_file import AgentFile, save_agent
from chameleon_ray.learning.journal import COLUMNS, sources_of_run, sources_of_table
from chameleon_ray.learning.lessons import LessonJournal
from chameleon_ray.learning.reading import PRIOR, learn_from, prior
from chameleon_ray.learning.sources import MOST_ROWS, of_recorded
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.recorded import find_recorded, load_recorded
from chameleon_ray.plan import make_plan
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import design_space, template_version
from chameleon_ray.token_agent import first_weights

TARGET = Target(lanes=16, cores=2)
TASK = Conv2d(in_channels=16, out_channels=16, height=8, width=8, kernel_height=3, kernel_width=3)
SPACE = design_space(TASK, TARGET)
PROVENANCE = Provenance(
    machine="A CPU, 2 cores, 16 lanes", template=template_version(TARGET), compiler="tvm"
)


def measured(row, milliseconds=(1.0,), **changes):
    """A measurement of a config of the task."""
    known = Measurement(
        task=TASK.key,
        config=SPACE.describe(row),
        purpose=Purpose.SEARCH,
        outcome=Outcome.OK if milliseconds else Outcome.RUN_ERROR,
        repeat_seconds=tuple(ms / 1e3 for ms in milliseconds),
    )
    return replace(known, **changes)


@pytest.fixture
def configs():
    """Five configs of the task."""
    return SPACE.random(5, np.random.default_rng(0))


def a_run(folder, measurements, provenance=PROVENANCE):
    """A run folder with these in its journal."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"network": "x"}))
    Journal(folder, provenance).append(measurements)
    return folder


class TestRun:
    """A run folder as sources."""

    def test_all_that_was_measured_of_a_layer(self, tmp_path, configs):
        """Medians of the repeats; a failure has no time; numbers of layer and device."""
        run = a_run(
            tmp_path / "run",
            [measured(configs[0], (1, 3, 2)), measured(configs[1], ()), measured(configs[2])],
        )
        (source,), remark = sources_of_run(run, name="run")
        assert remark == source.remark == ""
        assert source.seconds == pytest.approx([2e-3, np.nan, 1e-3], nan_ok=True)
        assert source.configs.tolist() == configs[:3].tolist()
        assert source.task == TASK.key
        assert source.numbers["processors"] == 2
        assert source.numbers["in_channels"] == 16
        assert source.name == f"run, {TASK.key}"

    def test_a_later_measurement_counts_for_an_earlier_one(self, tmp_path, configs):
        """As in the search itself."""
        run = a_run(tmp_path / "run", [measured(configs[0], (1,)), measured(configs[0], (5,))])
        (source,), _ = sources_of_run(run, name="run")
        assert source.seconds == pytest.approx([5e-3])

    def test_only_what_says_something_of_the_config(self, tmp_path, configs):
        """Finalists are timed otherwise; a lost device is no failure of the config."""
        run = a_run(
            tmp_path / "run",
            [
                measured(configs[0]),
                measured(configs[1], purpose=Purpose.FINALIST),
                measured(configs[2], (), outcome=Outcome.DEVICE_LOST),
                measured(configs[3], purpose=Purpose.TORCH, config={}),
            ],
        )
        (source,), _ = sources_of_run(run, name="run")
        assert source.configs.tolist() == configs[:1].tolist()

    def test_up_to_a_job(self, tmp_path, configs):
        """What was measured later is not known then."""
        run = a_run(tmp_path / "run", [measured(c) for c in configs])
        (source,), _ = sources_of_run(run, name="run", until=2)
        assert len(source.configs) == 2

    def test_a_layer_of_which_all_failed_teaches_nothing(self, tmp_path, configs):
        """There is no best to compare with."""
        run = a_run(tmp_path / "run", [measured(configs[0], ())])
        assert sources_of_run(run, name="run") == ([], "")

    def test_damaged_parts_are_left_out_and_said(self, tmp_path, configs):
        """The others still teach."""
        run = a_run(tmp_path / "run", [measured(configs[0])])
        (run / "records-00000002-00000002.parquet").write_bytes(b"PAR1 but cut off")
        (source,), remark = sources_of_run(run, name="run")
        assert len(source.configs) == 1
        assert "records-00000002-00000002.parquet cannot be read" in remark

    def test_another_version_of_the_template(self, tmp_path, configs):
        """What knobs and layers share is used, and said."""
        older = replace(PROVENANCE, template="cpu_conv2d/0")
        run = a_run(tmp_path / "run", [measured(configs[0])], older)
        (source,), _ = sources_of_run(run, name="run")
        assert "another version of the template" in source.remark

    def test_configs_of_other_choices(self, tmp_path, configs):
        """A config that this version's space does not have is left out, and counted."""
        config = SPACE.describe(configs[1])
        name = next(iter(config))
        odd = measured(configs[1], config={**config, name: (7,) * len(config[name])})
        run = a_run(tmp_path / "run", [measured(configs[0]), odd])
        (source,), _ = sources_of_run(run, name="run")
        assert len(source.configs) == 1
        assert source.remark == "1 of its configs are none of this version's"

    @pytest.mark.parametrize(
        "changes", [{"machine": "an abacus"}, {"machine": "sm_90, 132 SMs", "template": "x/1"}]
    )
    def test_what_this_version_has_no_space_for(self, tmp_path, configs, changes):
        """Nothing of it is used."""
        run = a_run(tmp_path / "run", [measured(configs[0])], replace(PROVENANCE, **changes))
        assert sources_of_run(run, name="run")[0] == []


def test_a_million_rows_are_read_in_bounded_memory():
    """Column by column; of a layer the best are kept and a share of the others."""
    some = SPACE.random(500, np.random.default_rng(0))
    rows = 1_000_000
    places = np.arange(rows) % len(some)
    config_type = pa.map_(pa.string(), pa.list_(pa.int64()))
    configs = pa.array([list(SPACE.describe(c).items()) for c in some], config_type)
    repeats = pa.array([[1e-3 * (1 + n), 2e-3 * (1 + n)] for n in range(len(some))])

    def always(text):
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text]).cast(pa.string())

    table = pa.table(
        {
            "job": np.arange(rows),
            "task": always(TASK.key),
            "machine": always(PROVENANCE.machine),
            "template": always(PROVENANCE.template),
            "purpose": always("search"),
            "outcome": always("ok"),
            "repeat_seconds": repeats.take(places),
            "config": configs.take(places),
        }
    )
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    (source,) = sources_of_table(table, name="huge")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 100 * 2**20
    assert source.seconds.min() == pytest.approx(1.5e-3)
    assert len(source.configs) <= MOST_ROWS
    assert peak < 500 * 2**20


class TestPlaces:
    """What `--learn-from` may name."""

    def test_a_run_a_folder_of_runs_and_recorded_spaces(self, tmp_path, configs):
        """A folder is gone through; what is neither is left alone."""
        a_run(tmp_path / "runs" / "one", [measured(configs[0]), measured(configs[1])])
        a_run(tmp_path / "runs" / "two", [measured(configs[2])])
        (tmp_path / "runs" / "notes.txt").write_text("not a run")
        (tmp_path / "runs" / "gpu.json.gz").write_bytes(
            find_recorded("gemm_RTX_2080_Ti").read_bytes()
        )
        one = learn_from([str(tmp_path / "runs" / "one")])
        assert [s.name for s in one.sources] == [f"one, {TASK.key}"]
        both = learn_from([str(tmp_path / "runs")])
        names = [s.name for s in both.sources]
        assert names == ["gpu", f"one, {TASK.key}", f"two, {TASK.key}"]
        assert one.digest != both.digest

    def test_names_of_shipped_spaces(self):
        """As everywhere else."""
        experience = learn_from(["convolution_A4000", "gemm_RTX_2080_Ti"])
        assert [s.name for s in experience.sources] == ["convolution_A4000", "gemm_RTX_2080_Ti"]
        assert experience.sources[0].numbers["processors"] == 48

    def test_a_file_of_records(self, tmp_path, configs):
        """A part of a journal, or several as one."""
        run = a_run(tmp_path / "run", [measured(c) for c in configs])
        part = next(run.glob("records-*.parquet"))
        merged = tmp_path / "prior.parquet"
        pq.write_table(pq.read_table(part, columns=list(COLUMNS)), merged)
        (source,) = learn_from([str(merged)]).sources
        assert len(source.configs) == 5

    def test_one_bad_run_of_many_is_left_out_and_said(self, tmp_path, configs):
        """A single one that was asked for is an error."""
        a_run(tmp_path / "runs" / "good", [measured(configs[0])])
        bad = tmp_path / "runs" / "bad.json"
        bad.write_text("{")
        experience = learn_from([str(tmp_path / "runs")])
        assert len(experience.sources) == 1
        assert any("bad.json is left out" in remark for remark in experience.remarks)
        with pytest.raises(SettingsError):
            learn_from([str(bad)])

    @pytest.mark.parametrize("kind", ["empty run", "empty folder", "text", "no such", "damaged"])
    def test_what_teaches_nothing_is_refused_in_words(self, tmp_path, kind):
        """The place is named, and what may be named instead."""
        place = tmp_path / "place"
        if kind == "empty run":
            place.mkdir()
            (place / "run.json").write_text("{}")
        elif kind == "empty folder":
            place.mkdir()
        elif kind == "text":
            place = tmp_path / "text.parquet"
            place.write_text("no")
        elif kind == "damaged":
            place.mkdir()
            (place / "run.json").write_text("{}")
            (place / "records-00000001-00000009.parquet").write_bytes(b"cut off")
        with pytest.raises((SettingsError, RunFolderError, UnknownNameError), match=r"place|text"):
            learn_from([str(place)])

    @pytest.mark.parametrize("manifest", ["[]", "{", '{"kind": "function"}', '{"kind": 3}'])
    def test_a_run_whose_manifest_is_damaged(self, tmp_path, configs, manifest):
        """By itself it is refused or read as far as it goes; among others it is left out."""
        run = a_run(tmp_path / "runs" / "bad", [measured(configs[0])])
        (run / "run.json").write_text(manifest)
        a_run(tmp_path / "runs" / "good", [measured(configs[1])])
        names = [source.name for source in learn_from([str(tmp_path / "runs")]).sources]
        assert f"good, {TASK.key}" in names
        if manifest != '{"kind": 3}':
            assert len(names) == 1
            with pytest.raises((SettingsError, RunFolderError), match=r"run\.json"):
                learn_from([str(run)])

    @pytest.mark.parametrize("column", ["task", "config", "outcome"])
    @pytest.mark.parametrize("wrong", ["null", "number"])
    def test_a_file_with_other_things_in_its_columns(self, tmp_path, configs, column, wrong):
        """It is refused in words."""
        run = a_run(tmp_path / "run", [measured(c) for c in configs])
        table = pq.read_table(next(run.glob("records-*.parquet"))).select(COLUMNS)
        at = table.schema.get_field_index(column)
        field = table.schema.field(column)
        values = (
            pa.nulls(len(table), field.type) if wrong == "null" else pa.array(range(len(table)))
        )
        pq.write_table(table.set_column(at, column, values), tmp_path / "x.parquet")
        with pytest.raises(SettingsError, match=r"x\.parquet"):
            learn_from([str(tmp_path / "x.parquet")])

    def test_the_run_that_learns_is_no_past_of_its_own(self, tmp_path, configs):
        """Though it lies in a folder that is learned from: going on learns the same again."""
        a_run(tmp_path / "runs" / "other", [measured(configs[0])])
        before = learn_from([str(tmp_path / "runs")], besides=tmp_path / "runs" / "mine")
        mine = a_run(tmp_path / "runs" / "mine", [measured(configs[1])])
        after = learn_from([str(tmp_path / "runs")], besides=mine)
        assert before.words == after.words
        with pytest.raises(SettingsError, match="the run itself"):
            learn_from([str(mine)], besides=mine)

    def test_the_same_twice_teaches_once(self, tmp_path, configs):
        """A run and the folder that it lies in."""
        run = a_run(tmp_path / "runs" / "one", [measured(configs[0])])
        experience = learn_from([str(run), str(tmp_path / "runs")])
        assert len(experience.sources) == 1

    def test_two_runs_of_a_layer_both_teach(self, tmp_path, configs):
        """On the same machine, too: all that was measured goes in."""
        for name, row in (("one", 0), ("two", 1)):
            a_run(tmp_path / "runs" / name, [measured(configs[row])])
        experience = learn_from([str(tmp_path / "runs")])
        assert len(experience.sources) == 2


class TestLessons:
    """When a layer learned up to where."""

    def test_asked_again_the_same(self, tmp_path):
        """Also by another process, after a kill."""
        journal = LessonJournal(tmp_path)
        assert journal.until("layer", 0, now=3) == 3
        assert journal.until("layer", 1, now=7) == 7
        assert journal.until("layer", 0, now=9) == 3
        again = LessonJournal(tmp_path)
        assert again.until("layer", 1, now=11) == 7
        assert again.until("other", 1, now=11) == 11

    def test_damaged_ones_are_told(self, tmp_path):
        """The layer is taught anew, and that is no secret."""
        LessonJournal(tmp_path).until("layer", 0, now=3)
        (part,) = tmp_path.glob("lessons-*.parquet")
        part.write_bytes(b"cut off")
        again = LessonJournal(tmp_path)
        assert again.damaged == [f"{part.name}.damaged"]
        assert again.until("layer", 0, now=9) == 9


class TestCommands:
    """The option of `replay` and `compare`."""

    def test_replay_begins_where_it_was_good_elsewhere(self, call, tmp_path):
        """Its own records are refused, those with other knobs left out; both are said."""
        code, _, err = call(
            "replay", "convolution_A4000", "--trials", 8, "--learn-from", "convolution_A4000"
        )
        assert code == 2
        assert "convolution_A4000 learns from nothing. Left out: its own records (1)." in err
        assert "nothing of it is of another device or layer with the knobs of" in err
        code, _, err = call(
            "replay", "convolution_A4000", "--trials", 8, "--learn-from", "gemm_RTX_2080_Ti"
        )
        assert code == 2
        assert "Left out: 1 of other knobs." in err

    def test_tune_cold_takes_no_past(self, call):
        """The two contradict each other."""
        code, _, err = call(
            "tune", "alexnet", "--env", "simulated", "--cold", "--learn-from", "gemm_RTX_2080_Ti"
        )
        assert code == 2
        assert "--cold and --learn-from" in err


def test_records_have_the_columns_that_are_read(tmp_path, configs):
    """The journal's schema and what is read of it go together."""
    run = a_run(tmp_path / "run", [measured(configs[0])])
    names = pq.read_schema(next(run.glob("records-*.parquet"))).names
    assert set(COLUMNS) <= set(names)


class TestPrior:
    """What ships."""

    def test_it_is_small_and_of_layers_that_this_version_knows(self):
        """Every source has a space here, and none of it is of another version of its template."""
        experience = prior()
        assert PRIOR.stat().st_size < 2**20
        assert len(experience.sources) >= 20
        assert not experience.remarks
        assert {source.numbers["lanes"] for source in experience.sources} == {8, 16}
        assert {source.numbers["processors"] for source in experience.sources} == {1, 2}

    def test_it_is_taken_on_a_real_cpu_and_not_where_it_is_not_wanted(self, tmp_path, configs):
        """Neither on a simulated device, nor cold, nor where evidence is sought."""
        of_cpu = partial(make_plan, "resnet18", policy="chameleon", layers=[4], trials=8, seed=0)
        assert of_cpu(env="cpu").experience.sources == prior().sources
        assert of_cpu(env="simulated").experience.sources == ()
        assert of_cpu(env="cpu", use_prior=False).experience.sources == ()
        assert of_cpu(env="cpu", cold=True).experience is None
        run = a_run(tmp_path / "mine", [measured(configs[0])])
        given = of_cpu(env="cpu", learn_from=str(run)).experience.sources
        assert [s.name for s in given[:2]] == [f"mine, {TASK.key}", prior().sources[0].name]

    @pytest.mark.parametrize("env", ["cpu", "simulated", "cuda", "cuda_tensor"])
    def test_histories_of_other_knobs_are_refused(self, env):
        """Whether or not there is something else to learn from."""
        with pytest.raises(SettingsError, match="nothing of it has the knobs of a layer"):
            make_plan(
                "resnet18",
                env=env,
                policy="chameleon",
                layers=[4],
                trials=8,
                seed=0,
                learn_from=["gemm_RTX_2080_Ti"],
            )

    def test_a_gpu_that_is_elsewhere_is_planned_for(self, tmp_path, configs):
        """Knobs have the same names on all; a history of another architecture is taken."""
        how = {"policy": "chameleon", "layers": [4], "trials": 8, "seed": 0}
        assert not make_plan("resnet18", env="cuda", **how).taught_by
        elsewhere = Target(kind="cuda", model="sm_80", lanes=32, cores=108)
        space = design_space(TASK, elsewhere)
        (row,) = space.random(1, np.random.default_rng(0))
        machine = "NVIDIA A100, sm_80, 108 SMs"
        run = a_run(
            tmp_path / "run",
            [measured(configs[0], config=space.describe(row))],
            replace(PROVENANCE, machine=machine, template=template_version(elsewhere)),
        )
        assert len(make_plan("resnet18", env="cuda", learn_from=[str(run)], **how).taught_by) == 1

    def test_a_model_of_narrower_vectors_is_planned_for(self, tmp_path):
        """Its channels are in blocks of its own, whatever this machine has."""
        (tmp_path / "narrow.yaml").write_text("model: haswell\n")
        how = {"policy": "chameleon", "layers": [4], "trials": 8, "seed": 0}
        env = str(tmp_path / "narrow.yaml")
        plan = make_plan("torchvision:resnet18", env=env, learn_from=[str(PRIOR)], **how)
        assert len(plan.taught_by) == len(prior().sources)

    @pytest.mark.parametrize("given", [3, [3], {"a": 1}])
    def test_no_places(self, given):
        """With the argument's name."""
        with pytest.raises(SettingsError, match=r"learn_from: .* is no list of run folders"):
            make_plan(
                "resnet18",
                env="simulated",
                policy="chameleon",
                layers=[4],
                trials=8,
                seed=0,
                learn_from=given,
            )


class TestEvidence:
    """A space's own times are no history, whatever they are called."""

    @pytest.fixture
    def whole(self):
        """A shipped space as a source."""
        return of_recorded(load_recorded("convolution_A4000"))

    @pytest.mark.parametrize("changed", ["device", "a part", "another unit", "noise"])
    def test_copies_are_recognised(self, whole, changed):
        """Under another name: whole, a tenth of it, in milliseconds, measured once more."""
        rng = np.random.default_rng(0)
        rows = np.arange(len(whole.configs))
        if changed == "a part":
            rows = rng.choice(rows, len(rows) // 10, replace=False)
        factor = 1000 if changed == "another unit" else 1
        noise = rng.normal(0, 0.01, len(rows)) if changed == "noise" else 0
        copy = replace(
            whole,
            device="A GPU of somebody else",
            configs=whole.configs[rows],
            seconds=whole.seconds[rows] * factor * np.exp(noise),
        )
        assert whole.same_as(copy)
        assert copy.same_as(whole)

    def test_another_device_is_another_device(self, whole):
        """Though it be a similar one."""
        rng = np.random.default_rng(0)
        spread = np.exp(rng.normal(0, 0.1, len(whole.seconds)))
        assert not whole.same_as(replace(whole, device="B", seconds=whole.seconds * spread))


class TestAgents:
    """An agent among what is learned from."""

    def test_no_search_is_a_test_of_it_where_it_was_trained(self, tmp_path, call):
        """The space is named."""
        agent = tmp_path / "a.safetensors"
        card = {"data": [{"space": "lookup:convolution_A4000"}]}
        save_agent(agent, AgentFile(weights=first_weights(hidden=8, seed=0), card=card))
        policy = tmp_path / "tokens.yaml"
        policy.write_text("explorer: {kind: ppo, agent: tokens}\nenumerate: 0\n")
        for command in (
            ["replay", "convolution_A4000"],
            ["compare", "--space", "convolution_A4000"],
        ):
            code, _, err = call(*command, "--trials", 8, "--policy", policy, "--learn-from", agent)
            assert code == 2
            assert "the agent was trained on convolution_A4000" in err

    def test_it_is_for_a_policy_that_can_use_it(self, tmp_path, call):
        """Others are refused in words; two agents are one too many."""
        agent = tmp_path / "a.safetensors"
        save_agent(agent, AgentFile(weights=first_weights(hidden=8, seed=0), card={}))
        experience = learn_from([str(agent)])
        assert experience.sources == ()
        assert experience.digest
        code, _, err = call("replay", "convolution_A4000", "--trials", 4, "--learn-from", agent)
        assert code == 2
        assert "explores without an agent that could begin with another's weights" in err
        with pytest.raises(SettingsError, match="begins with one agent"):
            learn_from([str(agent), str(agent)])
