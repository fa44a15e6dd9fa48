"""Signals that end a command in order."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from ray.cluster_utils import Cluster

from chameleon_ray import cli, listing
from chameleon_ray.errors import MachineError
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.session import ray_session, terminating_as_interrupt


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


def test_something_else_that_listens_is_no_ray():
    """Said at once, and not after a minute of Ray's own attempts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            connection, _ = server.accept()
            connection.recv(64)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with (
            pytest.raises(MachineError, match="what answers there is no Ray"),
            ray_session(address=f"127.0.0.1:{port}", cpus=1),
        ):
            pass


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
def test_a_process_that_has_a_ray_takes_no_other():
    """Its own by any of its names, or by none."""
    import ray

    ours = ray.get_runtime_context().gcs_address
    for address in (None, "auto", ours, ours.replace("127.0.0.1", "localhost")):
        with ray_session(address=address, cpus=1):
            assert ray.is_initialized()
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = f"127.0.0.1:{server.getsockname()[1]}"

        def answer():
            connection, _ = server.accept()
            connection.recv(64)
            connection.sendall(b"\0\0\0\4\0\0\0\0\0")  # the settings of HTTP/2
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with (
            pytest.raises(MachineError, match=f"has the Ray at {ours} already"),
            ray_session(address=other, cpus=1),
        ):
            pass
    assert ray.is_initialized()


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_has_gone_ends_its_runs_with_a_word(tmp_path):
    """In seconds, with the exit code of what a user can mend."""
    guard_ray()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    address = cluster.address
    code = (
        "import sys, time; from chameleon_ray.session import ray_session\n"
        "with ray_session(address=sys.argv[1], cpus=1):\n"
        "    print('there', flush=True); time.sleep(300)"
    )
    here = subprocess.Popen(
        [sys.executable, "-c", code, address], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert here.stdout.readline() == "there\n"
        cluster.shutdown()
        _, words = here.communicate(timeout=60)
    finally:
        here.kill()
    assert here.returncode == 2
    assert f"{address} has gone" in words
