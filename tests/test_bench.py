"""Measuring in a child process: whatever a candidate does costs that candidate only."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import faulty_backend as faults
import psutil
import pytest

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import MachineError, SettingsError
from chameleon_ray.measure import Job, Outcome, Purpose
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.child import Child
from chameleon_ray.measure.lease import CoreLease
from chameleon_ray.networks import network
from chameleon_ray.tasks import Target

TASK = network("resnet18")[0].task
ENV = Env(
    measurer="faulty_backend:backend",
    build_timeout_seconds=1.0,
    run_timeout_seconds=3.0,
    memory_bytes=2**29,
)


def job(fault, milliseconds=1):
    return Job(task=TASK, config={"fault": (fault, milliseconds)})


def running(bench):
    """The child that runs candidates."""
    return getattr(bench._child, "_runner", bench._child)


@pytest.fixture(params=["one process", "one that builds and one that runs"])
def bench(tmp_path, request):
    runner = Child(ENV, Target(), 0, "run") if "and" in request.param else None
    bench = Bench(ENV, Target(), 0, CoreLease(tmp_path), runner)
    bench.start()
    yield bench
    bench.close()
    if runner:
        runner.kill()


@pytest.mark.parametrize(
    ("fault", "outcome", "message"),
    [
        (faults.RAISES_IN_BUILD, Outcome.BUILD_ERROR, "no such intrinsic"),
        (faults.HANGS_IN_BUILD, Outcome.BUILD_TIMEOUT, "within 1 s"),
        (faults.SEGFAULTS, Outcome.CRASHED, "SIGSEGV"),
        (faults.HANGS_IN_RUN, Outcome.RUN_TIMEOUT, "within 3 s"),
        (faults.EATS_MEMORY, Outcome.RUN_ERROR, "MemoryError"),
        (faults.RAISES_IN_RUN, Outcome.RUN_ERROR, "device-side assert"),
        (faults.WRONG, Outcome.WRONG_OUTPUT, "is allowed"),
    ],
)
def test_a_fault_is_an_outcome_and_the_next_candidate_is_measured(bench, fault, outcome, message):
    """Each fault has its outcome and its message, and leaves a bench that works."""
    failed = bench.measure(job(fault))
    assert failed.outcome is outcome
    assert message in failed.message
    with pytest.raises(ValueError, match=outcome):
        _ = failed.seconds
    after = bench.measure(job(faults.OK, 7))
    assert after.ok
    assert after.repeat_seconds[0] == 0.007


@pytest.mark.parametrize("compiler", ["one", "another"])
def test_a_child_sees_the_environment_of_now(tmp_path, monkeypatch, compiler):
    """The forkserver is of the first case at the latest: what it saw is not what counts."""
    monkeypatch.setenv("CHAMELEON_TEST_COMPILER", compiler)
    env = Env(measurer="faulty_backend:from_environment")
    with closing(Bench(env, Target(), 0, CoreLease(tmp_path))) as bench:
        assert bench.start().compiler == compiler


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (faults.RAISES_IN_BUILD, Outcome.BUILD_ERROR),
        (faults.HANGS_IN_BUILD, Outcome.BUILD_TIMEOUT),
        (faults.SEGFAULTS, Outcome.CRASHED),
        (faults.HANGS_IN_RUN, Outcome.RUN_TIMEOUT),
        (faults.RAISES_IN_RUN, Outcome.RUN_ERROR),
        (faults.WRONG, Outcome.WRONG_OUTPUT),
    ],
)
def test_a_fault_among_several_costs_none_of_the_others(bench, fault, outcome):
    """Each measurement belongs to its job, before the fault and after it."""
    jobs = [job(faults.OK, 1), job(faults.OK, 2), job(fault), job(faults.OK, 4), job(faults.OK, 5)]
    measured = bench.measure_all(jobs)
    assert [m.config for m in measured] == [j.config for j in jobs]
    assert [m.outcome for m in measured] == [*[Outcome.OK] * 2, outcome, *[Outcome.OK] * 2]
    times = [m.repeat_seconds[0] for m in measured if m.ok]
    assert times == [0.001, 0.002, 0.004, 0.005]


def test_a_child_that_does_not_come_back_is_the_machines_fault(bench, monkeypatch):
    """No candidate is blamed: the host is given up; a bench that is asked again tries again."""
    assert bench.measure(job(faults.SEGFAULTS)).outcome is Outcome.CRASHED

    def refuse():
        raise OSError("out of processes")

    with monkeypatch.context() as patched:
        patched.setattr(running(bench), "start", refuse)
        with pytest.raises(MachineError, match="out of processes"):
            bench.measure(job(faults.OK))
    assert bench.measure(job(faults.OK)).ok


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_somebody_kills_costs_nothing(bench, number):
    """Its candidates are measured again: neither is to blame."""
    assert bench.measure(job(faults.OK)).ok
    before = running(bench)._process.pid
    killer = threading.Timer(0.3, os.kill, [before, number])
    killer.start()
    measured = bench.measure_all([job(faults.OK, 1), job(faults.WAITS, 2), job(faults.OK, 3)])
    killer.join()
    assert [m.repeat_seconds[0] for m in measured] == [0.001, 0.002, 0.003]
    assert running(bench)._process.pid != before


def test_finalists_whose_child_somebody_kills_are_timed_again(bench):
    """All of them, in turns as before."""
    bench.start()
    killer = threading.Timer(0.3, os.kill, [running(bench)._process.pid, signal.SIGKILL])
    killer.start()
    compared = bench.compare([job(faults.OK, 1), job(faults.WAITS, 2)])
    killer.join()
    assert all(m.ok for m in compared)


def test_a_candidate_that_is_killed_again_and_again_is_taken_for_the_cause(bench):
    """It eats so much that the system ends it, say; the third time it is given up."""
    measured = bench.measure(job(faults.KILLS_ITSELF))
    assert measured.outcome is Outcome.CRASHED
    assert "SIGKILL, 3 times in a row" in measured.message
    assert bench.measure(job(faults.OK)).ok


def test_a_backend_that_cannot_open_says_why(tmp_path):
    """Whatever its import raises: there may be no compiler."""
    env = Env(measurer="faulty_backend:broken")
    with pytest.raises(MachineError, match=r"(?s)libLLVM\.so.*doctor"):
        Bench(env, Target(), 0, CoreLease(tmp_path)).start()


def test_compare_leaves_out_what_does_not_build(bench):
    """A finalist that dies in its build takes none of the others along."""
    jobs = [job(faults.OK, 1), job(faults.HANGS_IN_BUILD), job(faults.OK, 3)]
    compared = bench.compare(jobs)
    assert [m.outcome for m in compared] == [Outcome.OK, Outcome.BUILD_TIMEOUT, Outcome.OK]
    assert [m.repeat_seconds for m in compared] == [(0.001,), (), (0.003,)]


def test_compare_that_crashes_fails_as_a_whole(bench):
    """Times taken in turns are of no use without each other."""
    compared = bench.compare([job(faults.OK), job(faults.SEGFAULTS)])
    assert {m.outcome for m in compared} == {Outcome.CRASHED}
    assert bench.measure(job(faults.OK)).ok


def test_a_backend_that_does_not_exist_is_refused(tmp_path):
    """The message names the module."""
    env = Env(measurer="no_such_module:backend")
    with pytest.raises(SettingsError, match="no_such_module"):
        Bench(env, Target(), 0, CoreLease(tmp_path)).start()


def test_a_cpu_that_llvm_does_not_know_is_refused_by_the_child(tmp_path):
    """LLVM would take any model in silence."""
    bench = Bench(Env(), Target(model="sapphirerapid"), 0, CoreLease(tmp_path))
    with pytest.raises(MachineError, match="knows no CPU 'sapphirerapid'"):
        bench.start()


def test_an_instruction_set_above_the_hosts_is_refused(monkeypatch):
    """Its kernels would die of SIGILL: the message names what is missing."""
    from chameleon_ray.measure import tvm

    monkeypatch.setattr(tvm.codegen, "llvm_get_system_cpu", lambda: "haswell")
    with pytest.raises(MachineError, match=r"znver4.*avx512f.*haswell"):
        tvm.resolve_target(Target(model="znver4"))
    assert tvm.resolve_target(Target(model="ivybridge")).model == "ivybridge"
    assert tvm.resolve_target(Target(model="native")).model == "haswell"


def test_real_kernels_are_built_checked_and_timed(tmp_path):
    """TVM's kernel of the default config agrees with torch and has a time."""
    from chameleon_ray.templates import default_config, design_space

    target = Target(lanes=4, cores=1)
    space = design_space(TASK, target)
    config = space.describe(default_config(TASK, target))
    bench = Bench(Env(run_timeout_seconds=60), target, 0, CoreLease(tmp_path))
    try:
        measured = bench.measure(Job(task=TASK, config=config))
        assert measured.ok, measured.message
        assert 0 <= measured.error < 1e-5
        assert 3 <= len(measured.repeat_seconds) <= 10
        finalist = Job(task=TASK, config=config, purpose=Purpose.FINALIST)
        torch = Job(task=TASK, config={}, purpose=Purpose.TORCH)
        assert all(m.ok for m in bench.compare([finalist, torch]))
    finally:
        bench.close()


OWNER = """
import sys, time
from pathlib import Path
from chameleon_ray.measure import Job
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.lease import CoreLease
from chameleon_ray.networks import network
from chameleon_ray.env_settings import Env
from chameleon_ray.tasks import Target
if __name__ == "__main__":
    env = Env(measurer="faulty_backend:backend", run_timeout_seconds=60)
    bench = Bench(env, Target(), 0, CoreLease(Path(sys.argv[1])))
    bench.start()
    print("started", flush=True)
    bench.measure(Job(task=network("resnet18")[0].task, config={"fault": (4, 1)}))
"""


def test_the_child_dies_with_its_parent_even_in_a_hanging_kernel(tmp_path):
    """SIGKILL of the parent leaves no process behind."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    owner = subprocess.Popen(
        [sys.executable, script, tmp_path / "locks"], stdout=subprocess.PIPE, env=environment
    )
    assert owner.stdout.readline() == b"started\n"
    family = psutil.Process(owner.pid).children(recursive=True)
    assert family
    time.sleep(0.3)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
