"""What of this machine works: each check's line, and that nothing tried can harm the doctor."""

import json
import subprocess
from types import SimpleNamespace

import psutil
import pytest

from chameleon_ray import attempts, cli, doctor
from chameleon_ray.attempts import ChildError, in_child


def failing(_function):
    """A child that crashed."""
    raise ChildError("crashed: SIGSEGV")


def test_a_line_has_status_finding_and_remedy():
    """Readable by people and by programs."""
    check = doctor.Check(name="disk", status="warn", found="0.1 GiB free", remedy="free some space")
    assert check.text() == "warn disk      0.1 GiB free  -> free some space"
    assert check.to_json() == {
        "name": "disk",
        "status": "warn",
        "found": "0.1 GiB free",
        "remedy": "free some space",
    }


def test_only_bad_lines_make_it_unusable():
    """Warnings are for times that will be noisy."""
    ok, warn, bad = (doctor.Check(name="x", status=s, found="") for s in ("ok", "warn", "bad"))
    assert doctor.usable([ok, warn])
    assert not doctor.usable([ok, bad])


def test_this_python_and_its_packages():
    """What runs the tests is good enough."""
    assert doctor.check_python().status == "ok"
    assert doctor.check_packages().status == "ok"
    assert "apache-tvm 0.27.0.post1" in doctor.check_packages().found


def test_wrong_and_missing_packages_are_named(monkeypatch):
    """A pin that does not hold is bad, an extra that is not asked for is not."""
    wanted = ["numpy<1", "no-such-package>=2", "pytest>=99; extra == 'dev'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _name: wanted)
    check = doctor.check_packages()
    assert check.status == "bad"
    assert "is not <1" in check.found
    assert "no-such-package is missing" in check.found
    assert "pytest" not in check.found
    assert check.remedy


def test_compiler_builds_a_kernel():
    """TVM's LLVM works here."""
    check = doctor.check_compiler()
    assert check.status == "ok", check
    assert "computed the right thing" in check.found


@pytest.mark.ray
def test_ray_starts():
    """A Ray of one core starts, runs a task and ends."""
    check = doctor.check_ray()
    assert check.status == "ok", check


@pytest.mark.parametrize("check", [doctor.check_compiler, doctor.check_ray])
def test_a_crash_is_a_line(monkeypatch, check):
    """What fails in the child is told, with a remedy."""
    monkeypatch.setattr(doctor, "in_child", failing)
    found = check()
    assert (found.status, found.found) == ("bad", "crashed: SIGSEGV")
    assert found.remedy


def test_an_unknown_cpu_is_a_line(monkeypatch):
    """LLVM accepts any name silently, so we ask it."""
    answer = {"model": "cray1", "known": False, "llvm": 22, "seconds": 0.1}
    monkeypatch.setattr(doctor, "in_child", lambda _function: answer)
    assert doctor.check_compiler().found == "LLVM 22 does not know this CPU, cray1"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("os.abort", "crashed: SIGABRT"),
        ("no_such_function", "failed: AttributeError: .*no_such_function"),
        ("os.getpid", "failed: no output"),
        ("signal.pause", "hung: gave no answer in 3 s"),
    ],
)
def test_children_that_fail(function, message):
    """A crash, an exception, silence and a hang each become an error with one line."""
    with pytest.raises(ChildError, match=message):
        in_child(function, timeout_seconds=3 if function == "signal.pause" else 60)


def test_a_hung_child_is_gone(monkeypatch):
    """Its whole process group is ended."""
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        attempts.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    with pytest.raises(ChildError):
        in_child("signal.pause", timeout_seconds=0.1)
    assert not psutil.pid_exists(started[0].pid)


def test_isa(monkeypatch):
    """Vector registers as archspec tells them; none that is known is a warning."""
    assert doctor.check_isa().status in {"ok", "warn"}
    old = SimpleNamespace(vendor="Cyrix", model="6x86", isa="", lanes=4)
    monkeypatch.setattr(doctor, "cpu", lambda: old)
    assert doctor.check_isa().status == "warn"
    assert "Cyrix 6x86: unknown, 4 float32 lanes" in doctor.check_isa().found


def test_cores(monkeypatch):
    """Load of others is a warning, a control group's share is told."""
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor, "core_quota", lambda: 2.5)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.1, 0, 0))
    assert doctor.check_cores().status == "ok"
    assert "2 usable of 8, load 0.1, control group's share 2.5" in doctor.check_cores().found
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (1.9, 0, 0))
    assert doctor.check_cores().status == "warn"


def test_clock(monkeypatch):
    """An unsteady clock is a warning with its variation."""
    assert "the same work varies by" in doctor.check_clock(seconds=0.05).found
    ticks = iter(range(10**6))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: float(next(ticks)) ** 1.5)
    assert doctor.check_clock(seconds=1e3).status == "warn"


@pytest.mark.parametrize(("gib", "status"), [(8, "ok"), (3, "warn"), (1, "bad")])
def test_memory(monkeypatch, gib, status):
    """Below 2 GiB free nothing works."""
    free = SimpleNamespace(available=gib * 2**30)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: free)
    assert doctor.check_memory().status == status


def test_disk(monkeypatch, tmp_path):
    """A full disk is a warning, a folder that may not be written is bad."""
    monkeypatch.chdir(tmp_path)
    assert doctor.check_disk().status == "ok"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert doctor.check_disk().status == "warn"
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert doctor.check_disk().status == "bad"


@pytest.mark.parametrize(
    ("script", "status", "found"),
    [
        (None, "ok", "none; CPU tuning works without"),
        ("echo 'NVIDIA H200, 580.1, 143771 MiB'", "ok", "NVIDIA H200, 580.1, 143771 MiB"),
        ("echo 'Driver mismatch' >&2; exit 18", "warn", "nvidia-smi fails: Driver mismatch"),
    ],
)
def test_gpus(monkeypatch, tmp_path, script, status, found):
    """GPUs are never needed: a broken driver is only a warning."""
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (doctor.check_gpus().status, doctor.check_gpus().found) == (status, found)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("bad", 2)])
def test_command(monkeypatch, capfd, status, code):
    """Exit code 0 if tuning would work; --json is one line on stdout."""
    check = doctor.Check(name="ray", status=status, found="2.60.0")
    monkeypatch.setattr(doctor, "examine", lambda: iter([check]))
    for arguments in (["doctor"], ["doctor", "--json"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == code
        out, _ = capfd.readouterr()
        assert status in out
    assert out.count("\n") == 1
    assert json.loads(out)["usable"] is (code == 0)


def test_cuda_without_a_gpu_is_not_asked_for(monkeypatch):
    """It takes no time then, and is no fault."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _tool: None)
    monkeypatch.setattr(doctor, "in_child", None)
    assert doctor.check_cuda().status == "ok"


@pytest.mark.parametrize(
    ("answer", "status", "found"),
    [
        (
            {"compiler": "NVRTC 13.5", "gpu": "NVIDIA H100, sm_90", "wrong": []},
            "ok",
            "NVRTC 13.5; NVIDIA H100, sm_90",
        ),
        ({"wrong": ["there is no compiler"]}, "warn", "there is no compiler"),
        (
            {"compiler": "NVRTC 13.5", "gpu": "a GPU", "wrong": ["process 7 computes there, too"]},
            "warn",
            "NVRTC 13.5; a GPU; process 7 computes there, too",
        ),
    ],
)
def test_cuda_with_a_gpu(monkeypatch, answer, status, found):
    """What compiles, what runs, and what is wrong with either."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _tool: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor, "in_child", lambda _function: answer)
    assert (doctor.check_cuda().status, doctor.check_cuda().found) == (status, found)


def test_cuda_is_tried_in_a_child():
    """Here there is no driver, and the child says so."""
    answer = attempts.in_child("try_cuda")
    assert any("no NVIDIA driver" in wrong or "no compiler" in wrong for wrong in answer["wrong"])


def test_every_check_is_examined(monkeypatch):
    """The order in which they are printed; the slow ones are stubbed."""
    monkeypatch.setattr(doctor, "in_child", failing)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    names = [check.name for check in doctor.examine()]
    assert names[:4] == ["python", "packages", "isa", "compiler"]
    assert {"cores", "clock", "memory", "disk", "gpus", "ray"} < set(names)
