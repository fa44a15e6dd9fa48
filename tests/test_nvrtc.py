"""The compiler of CUDA: where it is found."""

import subprocess
import sysconfig
import venv
from pathlib import Path

SOURCE = 'extern "C" __global__ void one(float* a) { a[threadIdx.x] = 1; }'
COMPILE = f"""
from chameleon_ray.measure.nvrtc import compile_cubin
assert compile_cubin({SOURCE!r}, "sm_90").startswith(b"\\x7fELF")
"""


def test_an_environment_that_borrows_its_packages_has_it(tmp_path):
    """As Ray makes one for `runtime_env: {pip: ...}`: NVIDIA's bindings look only in its own."""
    venv.create(tmp_path)
    paths = {"base": str(tmp_path), "platbase": str(tmp_path)}
    own = Path(sysconfig.get_path("purelib", vars=paths))
    borrowed, here = sysconfig.get_path("purelib"), Path(__file__).parents[1]
    (own / "borrowed.pth").write_text(f"{borrowed}\n{here}\n")
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-c", COMPILE], check=True, cwd=tmp_path)
