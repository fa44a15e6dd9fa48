"""The journal: nothing appended is lost, whatever happens to the process, the files or the disk."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from chameleon_ray import parts as parts_module
from chameleon_ray.errors import RunFolderError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.drift import OUT_OF_LINE
from chameleon_ray.records import Journal, Provenance, drifts, read_records
from chameleon_ray.storage import open_folder

PROVENANCE = Provenance(
    machine="EPYC 9654, 4 cores",
    compiler="tvm 0.27 llvm 20 -mcpu=znver4",
    versions={"tvm": "0.27.0", "chameleon-ray": "0.1.0"},
    template="cpu-conv2d-1",
    env="cpu",
    policy="chameleon",
    seed=7,
)


def measurement(i=0, **changes):
    """A measurement as a tuning makes them: a few knobs, ten repeats, now and then a failure."""
    fields = {
        "task": "conv2d_n1_c256x56x56_k256x3x3_s1_p1_g1_float32",
        "config": {"tile_f": (4, 1, 16, 4), "tile_x": (1, 7, 8), "unroll": (i % 512,)},
        "purpose": Purpose.SEARCH,
        "outcome": Outcome.OK,
        "repeat_seconds": tuple(1e-3 + 1e-7 * (i * 7919 % 997 + j) for j in range(10)),
        "build_seconds": 0.2 + i / 7e4,
        "run_seconds": 0.1 + i / 9e4,
        "error": 1e-6,
    }
    if i % 5 == 4:
        fields |= {"outcome": Outcome.BUILD_ERROR, "repeat_seconds": (), "error": None}
        fields |= {"message": f"InternalError {i}: " + "  at src/tir/transforms.cc:123\n" * 30}
    return Measurement(**fields | changes)


def parts(folder):
    """Names of the whole parts."""
    return sorted(path.name for path in folder.glob("*.parquet"))


def jobs(folder):
    """The job numbers on disk."""
    return [record.job for record in read_records(folder)[0]]


class Crash(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_what_was_appended_is_read_back(tmp_path):
    """Records come back equal, in the order of their jobs, stamped in UTC, from another object."""
    before = datetime.now(UTC)
    journal = Journal(tmp_path, PROVENANCE)
    written = journal.append([measurement(i) for i in range(3)])
    written += journal.append([measurement(i) for i in range(3, 10)])
    assert [record.job for record in written] == list(range(1, 11))
    assert written[0].provenance == PROVENANCE
    assert Journal(tmp_path, Provenance()).records() == written
    assert read_records(tmp_path) == (written, [])
    assert before <= written[0].measured_at <= written[-1].measured_at <= datetime.now(UTC)
    assert read_records(tmp_path)[0][0].measured_at.tzinfo is UTC


names = st.text(max_size=10)
seconds = st.floats(0, 1e6)
measurements = st.builds(
    Measurement,
    task=names,
    config=st.dictionaries(names, st.lists(st.integers(-(2**63), 2**63 - 1)).map(tuple)),
    purpose=st.sampled_from(Purpose),
    outcome=st.sampled_from(Outcome),
    message=st.text(),
    repeat_seconds=st.lists(seconds).map(tuple),
    build_seconds=seconds,
    run_seconds=seconds,
    error=st.none() | st.floats(0),
)
provenances = st.builds(
    Provenance,
    machine=names,
    compiler=names,
    versions=st.dictionaries(names, names),
    template=names,
    env=names,
    policy=names,
    seed=st.integers(-(2**63), 2**63 - 1),
)


@given(st.lists(st.lists(measurements, max_size=4), max_size=4), provenances)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_anything_survives_the_round_trip(tmp_path_factory, batches, provenance):
    """Any text, number, config and failure comes back as it was."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, provenance)
    written = [record for batch in batches for record in journal.append(batch)]
    assert read_records(folder) == (written, [])


def test_a_message_that_is_no_text_is_kept_as_far_as_it_goes(tmp_path):
    """Half a character in a compiler's output does not cost the record."""
    Journal(tmp_path, PROVENANCE).append([measurement(message="bad \udcff byte")])
    assert read_records(tmp_path)[0][0].measurement.message == "bad ? byte"


def test_nothing_appended_is_nothing_written_and_nothing_to_read(tmp_path):
    """An empty batch makes no file, not even the folder, and reading then is no error."""
    assert Journal(tmp_path / "run", PROVENANCE).append([]) == []
    assert not (tmp_path / "run").exists()
    assert Journal(tmp_path / "run", PROVENANCE).records() == []
    assert read_records(tmp_path / "run") == ([], [])


def test_a_second_journal_goes_on_counting(tmp_path):
    """Jobs count up across restarts."""
    Journal(tmp_path, PROVENANCE).append([measurement()] * 5)
    (record,) = Journal(tmp_path, PROVENANCE).append([measurement()])
    assert record.job == 6


def test_a_thousand_measurements_stay_small(tmp_path):
    """1,000 appended one by one: below 2 MB, in a few dozen files."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(1000):
        journal.append([measurement(i)])
    files = list(tmp_path.iterdir())
    assert len(files) <= 36
    assert sum(file.stat().st_size for file in files) < 2e6
    assert jobs(tmp_path) == list(range(1, 1001))


def test_large_parts_are_left_alone(tmp_path, monkeypatch):
    """Once a part is large, later merges leave it as it is: appending stays cheap."""
    monkeypatch.setattr(parts_module, "_LARGE", 40)
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(33 * 8):
        journal.append([measurement(i)] * 2)
    large = [name for name in parts(tmp_path) if int(name[17:25]) - int(name[8:16]) >= 39]
    assert len(large) >= 5
    assert jobs(tmp_path) == list(range(1, 33 * 16 + 1))


def crash_after(monkeypatch, calls):
    """Let the process end before the given call to the file system, and say if it came to that."""
    counter = itertools.count(1)
    reached = []

    def wrap(function):
        def wrapped(*args, **kwargs):
            if next(counter) == calls:
                reached.append(True)
                raise Crash
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "fsync", wrap(os.fsync))
    monkeypatch.setattr(Path, "rename", wrap(Path.rename))
    monkeypatch.setattr(Path, "unlink", wrap(Path.unlink))
    return reached


@pytest.mark.parametrize("calls", range(1, 48))
def test_a_crash_at_any_point_of_a_merge_loses_and_doubles_nothing(tmp_path, monkeypatch, calls):
    """The process ends before the nth change of the folder; the next one finds all records."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(32):
        journal.append([measurement(i)])
    with monkeypatch.context() as patch:
        reached = crash_after(patch, calls)
        try:
            journal.append([measurement(32)])
            acknowledged = 33
        except Crash:
            acknowledged = 32
    assert jobs(tmp_path) in ([*range(1, acknowledged + 1)], [*range(1, 34)])
    fresh = Journal(tmp_path, PROVENANCE)
    (record,) = fresh.append([measurement(33)])
    assert record.job > acknowledged
    found = jobs(tmp_path)
    assert sorted(set(found)) == found
    assert set(found) >= {*range(1, acknowledged + 1), record.job}
    assert not list(tmp_path.glob("*.tmp"))
    assert bool(reached) == (acknowledged == 32)


WRITER = """
import sys
from pathlib import Path
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.records import Journal, Provenance
journal = Journal(Path(sys.argv[1]), Provenance())
m = Measurement(task="t", config={"a": (1,)}, purpose=Purpose.SEARCH, outcome=Outcome.OK)
while True:
    for record in journal.append([m] * 3):
        print(record.job, flush=True)
"""


def test_kill_9_loses_nothing_that_was_appended(tmp_path):
    """A writer is killed six times at moments of no choosing; every job it announced is there."""
    announced = []
    for round_ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        first = writer.stdout.readline()
        time.sleep(0.05 + 0.037 * round_)
        writer.send_signal(signal.SIGKILL)
        lines = (first + writer.communicate()[0]).splitlines(keepends=True)
        announced += [int(line) for line in lines if line.endswith("\n")]
    found = jobs(tmp_path)
    assert read_records(tmp_path)[1] == []
    assert len(announced) == len(set(announced)) > 6
    assert set(announced) <= set(found)
    assert len(found) == len(set(found))


def truncate(path):
    """Lose the second half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_a_bit(path):
    """Change one bit of the data, which only a checksum can tell."""
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbage": lambda path: path.write_bytes(b"PAR1" + bytes(range(256)) * 2 + b"PAR1"),
    "another table": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "one bit": flip_a_bit,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_set_aside_and_named(tmp_path, damage):
    """What is whole is kept; what is not is renamed, reported, and stays reported."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(3):
        journal.append([measurement(i)] * 2)
    victim = tmp_path / parts(tmp_path)[1]
    damage(victim)
    assert read_records(tmp_path)[1] == [victim.name]  # looking changes nothing
    assert victim.exists()
    assert [record.job for record in journal.records()] == [1, 2, 5, 6]
    assert journal.damaged == [f"{victim.name}.damaged"]
    assert not victim.exists()
    assert [record.job for record in journal.records()] == [1, 2, 5, 6]
    assert read_records(tmp_path)[1] == journal.damaged
    assert Journal(tmp_path, PROVENANCE).damaged == journal.damaged


def test_the_jobs_of_a_damaged_part_are_not_given_out_again(tmp_path):
    """If the last part was lost, its numbers are not used for other measurements."""
    Journal(tmp_path, PROVENANCE).append([measurement()] * 4)
    truncate(tmp_path / parts(tmp_path)[0])
    journal = Journal(tmp_path, PROVENANCE)
    assert journal.records() == []
    (record,) = journal.append([measurement()])
    assert record.job == 5


def test_a_merge_meets_a_damaged_part(tmp_path):
    """Merging keeps what is whole, and sets the rest aside instead of deleting it."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(32):
        journal.append([measurement(i)])
    truncate(tmp_path / parts(tmp_path)[4])
    journal.append([measurement(32)])
    assert jobs(tmp_path) == [job for job in range(1, 34) if job != 5]
    assert journal.damaged == ["records-00000005-00000005.parquet.damaged"]
    assert len(parts(tmp_path)) == 2


def test_a_newer_schema_is_refused(tmp_path):
    """Records of a newer version are an error that says what to do, and stay untouched."""
    journal = Journal(tmp_path, PROVENANCE)
    journal.append([measurement()])
    path = tmp_path / parts(tmp_path)[0]
    table = pq.read_table(path).replace_schema_metadata({"schema_version": "3"})
    pq.write_table(table, path)
    with pytest.raises(RunFolderError, match=r"schema 3 .* up to 2\. Update chameleon-ray"):
        journal.records()
    assert parts(tmp_path) == [path.name]


def test_an_older_schema_is_read(tmp_path):
    """Version 1 did not say which device measured; merging brings it up to date."""
    journal = Journal(tmp_path, PROVENANCE)
    journal.append([replace(measurement(), device="gpu:0")])
    path = tmp_path / parts(tmp_path)[0]
    table = pq.read_table(path).drop_columns(["device"])
    pq.write_table(table.replace_schema_metadata({"schema_version": "1"}), path)
    assert [r.measurement.device for r in journal.records()] == [""]
    for number in range(32):
        journal.append([replace(measurement(number), device="gpu:0")])
    assert len(parts(tmp_path)) < 32
    assert [r.measurement.device for r in journal.records()] == [""] + ["gpu:0"] * 32


def test_what_a_device_that_drifted_measured_of_late_is_doubtful(tmp_path):
    """Since its last good look; nothing of other devices."""
    journal = Journal(tmp_path, PROVENANCE)
    good = replace(measurement(), purpose=Purpose.REFERENCE, device="a")
    drifted = replace(good, outcome=Outcome.DRIFTED, message="it is 1.5 times as slow")
    a, b = (replace(measurement(), device=name) for name in "ab")
    doubted = replace(good, message=OUT_OF_LINE)
    records = journal.append([a, good, a, b, a, doubted, a, drifted, a, good, a])
    (line,) = drifts(records)
    assert "UTC, a: it is 1.5 times as slow; doubtful: jobs 3 to 7 of it." in line
    assert drifts(journal.append([good, drifted])) == [line.split("; doubtful")[0] + "."]


def test_what_was_measured_beside_other_programs_is_doubtful(tmp_path):
    """How many, of which device; what a journal says of it is what was measured."""
    alone = replace(measurement(), device="a", others=(0, 0))
    beside = replace(alone, others=(0, 1))
    other = replace(beside, device="b")
    Journal(tmp_path, PROVENANCE).append([alone, beside, other, beside])
    records = read_records(tmp_path)[0]
    assert [r.measurement.others for r in records] == [(0, 0), (0, 1), (0, 1), (0, 1)]
    assert [line.split(", whose")[0] for line in drifts(records)] == [
        "a: other programs computed on it during 2 measurements",
        "b: other programs computed on it during 1 measurements",
    ]


def test_the_columns_are_typed(tmp_path):
    """Anything that reads Parquet finds named, typed columns and the schema's version."""
    Journal(tmp_path, PROVENANCE).append([measurement()])
    schema = pq.read_schema(tmp_path / parts(tmp_path)[0])
    assert schema.metadata[b"schema_version"] == b"2"
    assert schema.field("config").type == pa.map_(pa.string(), pa.list_(pa.int64()))
    assert schema.field("repeat_seconds").type == pa.list_(pa.float64())
    assert schema.field("measured_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("job").type == schema.field("seed").type == pa.int64()


@pytest.mark.parametrize("appended", [1, 32], ids=["during an append", "during a merge"])
def test_a_full_disk_is_an_error_with_a_remedy_and_leaves_nothing(tmp_path, monkeypatch, appended):
    """No space left: the message names folder, cause and remedy; later appends work again."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(appended):
        journal.append([measurement(i)])
    before = parts(tmp_path)

    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunFolderError, match=r"No space left on device.*Free space") as caught:
            journal.append([measurement()])
    assert str(tmp_path) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    journal.append([measurement()])
    assert len(jobs(tmp_path)) == appended + 1
    assert len(parts(tmp_path)) == 2


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB, where the machine allows mounting one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system takes rights that this user lacks")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_runs_full(tiny_disk):
    """On a disk of 64 KiB, appending ends in an error, and every record before it is there."""
    journal = Journal(tiny_disk, PROVENANCE)
    written = []

    def go_on_for_long():
        for i in range(1000):
            written.extend(journal.append([measurement(i)]))

    with pytest.raises(RunFolderError, match="No space left on device"):
        go_on_for_long()
    assert read_records(tiny_disk) == (written, [])
    assert not list(tiny_disk.glob("*.tmp"))


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file where the folder should be is named in the error."""
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(RunFolderError, match=r"run.*cannot keep records there"):
        Journal(tmp_path / "run" / "records", PROVENANCE).append([measurement()])


def test_reading_while_another_process_merges(tmp_path, monkeypatch):
    """A part that vanishes between listing and reading sends the reader back to the list."""
    journal = Journal(tmp_path, PROVENANCE)
    for i in range(32):
        journal.append([measurement(i)])
    listed = parts_module._parts(open_folder(tmp_path), "records")
    journal.append([measurement(32)])
    answers = iter([listed])
    true_parts = parts_module._parts
    monkeypatch.setattr(
        parts_module,
        "_parts",
        lambda folder, name: next(answers, None) or true_parts(folder, name),
    )
    assert jobs(tmp_path) == list(range(1, 34))


def test_importing_the_module_is_cheap():
    """Arrow is imported when a journal is made or read, not by the module."""
    code = "import sys, chameleon_ray.records; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_appending_imports_nothing(tmp_path):
    """It would be beside the first kernels that are timed, which then take four times as long."""
    code = f"""
import sys
from pathlib import Path
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.records import Journal, Provenance
journal = Journal(Path({str(tmp_path)!r}), Provenance())
m = Measurement(task="t", config={{"a": (1,)}}, purpose=Purpose.SEARCH, outcome=Outcome.OK)
before = set(sys.modules)
journal.append([m])
print(sorted(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"
