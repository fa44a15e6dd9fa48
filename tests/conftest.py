"""What all tests share."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from chameleon_ray import cli

sys.path.insert(0, str(Path(__file__).parent))  # contracts and faulty_backend are imported by name


def pytest_configure():
    """Under xdist, each process has a folder of Ray's own: `auto` is the last Ray started there."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix=f"cr-{worker}-", dir="/tmp")


def pytest_unconfigure():
    """No logs of Ray are left."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)


@pytest.fixture
def call(capfd):
    """Runs a command line: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture(scope="module", autouse=True)
def _no_ray_of_others():
    """A Ray that a module started ends with it: another one's environment is not in its workers."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def shared_ray():
    """A Ray for all runs of a module: to start one takes as long as a small run.

    Its workers find the modules that lie beside the tests.
    """
    from chameleon_ray.ray_access import start_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        start_ray(cpus=8)


@pytest.fixture
def store(monkeypatch):
    """An object store with a bucket."""
    from stores import Store

    started = Store(monkeypatch)
    yield started
    started.stop()
