"""What a run leaves for TensorBoard."""

import itertools
import struct
from types import SimpleNamespace

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from chameleon_ray import tune
from chameleon_ray.event_file import EventFile
from chameleon_ray.measure import Purpose
from chameleon_ray.networks import network
from chameleon_ray.records import read_records
from chameleon_ray.tensorboard import TensorBoardFiles


def masked(content):
    """The checksum of a record, by another's code."""
    value = crc32c(content)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder):
    """The events of the one file in a folder, decoded by tensorboardX; checksums are checked."""
    (path,) = folder.glob("*tfevents*")
    data, found = path.read_bytes(), []
    while data:
        (length, of_length), rest = struct.unpack("<QI", data[:12]), data[12:]
        content, (of_content,) = rest[:length], struct.unpack("<I", rest[length : length + 4])
        assert of_length == masked(data[:8])
        assert of_content == masked(content)
        found.append(Event.FromString(content))
        data = rest[length + 4 :]
    return found


def scalars(folder):
    """Name -> step -> value."""
    found = {}
    for event in events(folder)[1:]:
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_events_are_read_by_others(tmp_path):
    """A version first, then what was added, with steps beyond a byte."""
    file = EventFile(tmp_path)
    file.add(0, {"gflops": 2.5})
    file.add(2**40 + 300, {"gflops": 1e-6, "best_seconds": 3.0})
    file.close()
    assert events(tmp_path)[0].file_version == "brain.Event:2"
    assert scalars(tmp_path)["gflops"] == {0: 2.5, 2**40 + 300: pytest.approx(1e-6)}
    assert scalars(tmp_path)["best_seconds"] == {2**40 + 300: 3.0}


def report(files, measurements, *, failures=0, best=1e-3):
    """A layer's report, as Tune hands it on."""
    trial = SimpleNamespace(config={"layer": 4})
    result = {
        "measurements": measurements,
        "best_seconds": best,
        "gflops": best and 1.0 / best,
        "failures": failures,
    }
    files.on_trial_result(1, [trial], trial, result)


def test_what_is_told_twice_is_written_once(tmp_path):
    """A layer whose process was lost plays its search again; what has no time has no value."""
    files = TensorBoardFiles(tmp_path)
    files.setup()
    for measurements in (4, 8, 4, 8, 12):
        best = None if measurements == 4 else 1e-3
        report(files, measurements, failures=measurements // 4, best=best)
    files.close()
    found = scalars(tmp_path / "tensorboard" / "layer04")
    assert found["failures"] == {4: 1, 8: 2, 12: 3}
    assert list(found["best_seconds"]) == [8, 12]


def test_a_folder_that_cannot_be_written_costs_the_files_alone(tmp_path):
    """As a full disk does: the journal says so where it matters, and the search is not stopped."""
    (tmp_path / "tensorboard").write_text("not a folder")
    files = TensorBoardFiles(tmp_path)
    report(files, 4)
    report(files, 8)
    files.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_a_run_leaves_the_curves_of_its_journal(tmp_path):
    """Best time, speed and failures of each layer, at each step; once more when it goes on."""
    run = tmp_path / "run"
    policy = tmp_path / "eight.yaml"
    policy.write_text("sampler: {kind: greedy, batch: 8}\nexplorer: {kind: random}\ninitial: 8\n")
    for trials in (24, 32):
        tune(
            "resnet18",
            env="simulated",
            policy=str(policy),
            layers=[1, 4],
            trials=trials,
            run=run,
        )
        records = [record.measurement for record in read_records(run)[0]]
        for layer in (network("resnet18")[0], network("resnet18")[3]):
            measured = [
                m
                for m in records
                if m.task == layer.task.key and m.purpose in (Purpose.DEFAULT, Purpose.SEARCH)
            ]
            found = scalars(run / "tensorboard" / f"layer{layer.index:02}")
            times = [m.seconds if m.ok else float("inf") for m in measured]
            bests = list(itertools.accumulate(times, min))
            failures = list(itertools.accumulate(not m.ok for m in measured))
            assert max(found["failures"]) == len(measured) == trials
            assert len(found["failures"]) >= trials // 8
            for step, value in found["best_seconds"].items():
                assert value == pytest.approx(bests[step - 1])
                flop = layer.task.flop
                assert found["gflops"][step] == pytest.approx(flop / bests[step - 1] / 1e9)
            assert {n: failures[n - 1] for n in found["failures"]} == found["failures"]
