"""What a process that runs generated code has and may do."""

import subprocess
import sys
import textwrap


def confined(code, environment=None):
    """What code prints in a confined process, and how that ended."""
    prologue = "from chameleon_ray.measure.limits import allow_cpu, confine\n"
    command = [sys.executable, "-c", prologue + textwrap.dedent(code)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_secrets_are_not_in_its_environment():
    """What compilers and devices read is, and what the env names."""
    code = """
    import os
    confine(memory_bytes=2**30, keep=["MINE"])
    print(sorted(os.environ))
    """
    given = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "RAY_AUTH_TOKEN": "x", "MINE": "1"}
    given |= {"CUDA_VISIBLE_DEVICES": "1", "TVM_NUM_THREADS": "2", "LC_ALL": "C.UTF-8"}
    kept = confined(code, given).stdout
    assert kept == str(sorted(given.keys() - {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"})) + "\n"


def test_too_much_memory_is_an_error():
    """Which the candidate gets, and not the machine."""
    assert "MemoryError" in confined("confine(memory_bytes=2**29)\nbytearray(2**30)").stderr


def test_a_file_that_grows_without_end_is_cut(tmp_path):
    """A gigabyte is the most; the process is told by the system."""
    code = f"""
    import os
    confine(memory_bytes=2**30)
    file = os.open({str(tmp_path / "big")!r}, os.O_WRONLY | os.O_CREAT)
    os.pwrite(file, b"x", 2**30)
    """
    assert confined(code).returncode != 0
    assert not (tmp_path / "big").exists() or (tmp_path / "big").stat().st_size <= 2**30


def test_computing_without_end_is_ended():
    """By a signal, some seconds after the time that was allowed."""
    code = """
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (2, 3))
    allow_cpu(1000)
    print(resource.getrlimit(resource.RLIMIT_CPU))
    """
    assert confined(code).stdout == "(3, 3)\n"
