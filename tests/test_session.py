"""Signals that end a command in order."""

import os
import signal
import subprocess
import sys
import time

import pytest

from chameleon_ray import cli, listing
from chameleon_ray.session import terminating_as_interrupt


def test_sigterm_interrupts_once_and_is_given_back():
    """A supervisor that repeats it does not disturb what ends in order."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with terminating_as_interrupt():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with terminating_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):  # a user who insists
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_any_command_ends_with_a_line_and_130(monkeypatch, capsys, number):
    """Also where it does nothing about interrupts itself."""
    monkeypatch.setattr(listing, "rows", lambda _name: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        cli.main(["layers", "resnet18"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.mark.ray
@pytest.mark.slow
def test_compare_ends_with_a_line_and_130(tmp_path):
    """SIGTERM while it searches: what is finished stays, and nothing but the line is told."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "chameleon_ray", "compare", "--space", "gemm_RTX_2080_Ti"]
    command += ["--policy", "random", "--seeds", "0-4999", "--trials", "30", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while not list(out.rglob("search-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    *_, line = err.splitlines()
    assert line.startswith("Stopped; the same command with --out")
