"""The built wheel, in an environment without the checkout."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KINDS = ("envs", "policies", "clusters")

pytestmark = pytest.mark.slow


def run(*command, cwd, check=True):
    """Runs a command; what it did, with its output."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of an environment with the wheel, which borrows its dependencies."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=venv)
    (own,) = venv.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")  # their .pth files do not count
    code = "import chameleon_ray; print(chameleon_ray.__file__)"
    assert run(python, "-c", code, cwd=venv).stdout.startswith(str(own))
    return venv / "bin"


def test_what_is_in_it(wheel):
    """The package with its presets, types and license, and nothing beside it."""
    names = zipfile.ZipFile(wheel).namelist()
    info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.split("/")[0] for name in names} == {"chameleon_ray", info}
    for name in (
        "_presets/envs/cpu.yaml",
        "_presets/policies/chameleon.yaml",
        "py.typed",
        "templates/gemm_kernel/kernel.cu",
    ):
        assert f"chameleon_ray/{name}" in names
    for name in ("local.yaml", "grafana_dashboard.json"):
        assert f"chameleon_ray/_presets/clusters/{name}" in names
    for name in ("convolution_A4000.json.gz", "gemm_RTX_2080_Ti.json.gz", "LICENSE", "README.md"):
        assert f"chameleon_ray/spaces/{name}" in names
    assert f"{info}/licenses/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name]


def test_program(programs, wheel, tmp_path):
    """The program starts, says its version and lists layers."""
    program = programs / "chameleon-ray"
    assert "Usage: chameleon-ray" in run(program, "--help", cwd=tmp_path).stdout
    assert run(program, "--version", cwd=tmp_path).stdout.strip() in wheel.name
    listed = json.loads(run(program, "layers", "resnet18", "--json", cwd=tmp_path).stdout)
    assert len(listed["layers"]) == 12


def test_presets_from_an_empty_folder(programs, tmp_path):
    """The shipped presets are found by name."""
    code = (
        "from chameleon_ray import presets as p\n"
        "print(*[p.load_env(n)[0] for n in p.known('envs')],"
        " *[p.load_policy(n)[0] for n in p.known('policies')], *p.known('clusters'))"
    )
    out = run(programs / "python", "-c", code, cwd=tmp_path).stdout
    there = {kind: sorted(p.stem for p in (ROOT / kind).glob("*.yaml")) for kind in KINDS}
    assert out.split() == [name for kind in KINDS for name in there[kind]]


def test_shipped_space(programs, tmp_path):
    """A recorded space is searched by name, from an empty folder."""
    options = ("--policy", "genetic", "--trials", "16", "--json")
    command = (programs / "chameleon-ray", "replay", "convolution_A4000", *options)
    assert json.loads(run(*command, cwd=tmp_path).stdout)["device"].startswith("recorded: NVIDIA")
    assert not list(tmp_path.iterdir())


def test_unknown_preset(programs, tmp_path):
    """The known ones are named; nothing is left in the folder."""
    command = ("tune", "resnet18", "--policy", "chamelon")
    done = run(programs / "chameleon-ray", *command, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "Did you mean 'chameleon'? Known: adaptive_exploration" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_tuning(programs, tmp_path):
    """A run from an empty folder, on the simulated device, by the script of `ray submit`."""
    (tmp_path / "tune_network.py").write_text((ROOT / "tune_network.py").read_text())
    options = ("--env", "simulated", "--policy", "random", "--layers", "4", "--trials", "4")
    command = ("tune_network.py", "resnet18", *options, "--json")
    value = json.loads(run(programs / "python", *command, cwd=tmp_path).stdout)
    assert value["layers"][0]["measurements"] == 4
    assert "simulated" in value["device"]
