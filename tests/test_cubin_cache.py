"""What was compiled before is not compiled again, and nothing depends on that."""

import os

import pytest

from chameleon_ray.measure import cubin_cache

CUBIN = b"\x7fELF machine code"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "chameleon-ray" / "cubins"


class Compiler:
    """Counts."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return CUBIN


@pytest.fixture
def compiler():
    """One that was never called."""
    return Compiler()


def test_the_same_source_is_compiled_once(compiler, home):
    """By the same compiler; the folder is the user's alone."""
    for _ in range(3):
        assert cubin_cache.compiled("source", "nvrtc 13 for sm_90", compiler) == CUBIN
    assert compiler.calls == 1
    assert home.stat().st_mode & 0o777 == 0o700
    cubin_cache.compiled("source", "nvrtc 13 for sm_80", compiler)
    cubin_cache.compiled("another", "nvrtc 13 for sm_90", compiler)
    assert compiler.calls == 3
    assert len(list(home.iterdir())) == 3


def test_what_is_no_machine_code_is_compiled_again(compiler, home):
    """A file of zeros is what some crashes leave."""
    cubin_cache.compiled("source", "nvrtc", compiler)
    (file,) = home.iterdir()
    file.write_bytes(bytes(20))
    assert cubin_cache.compiled("source", "nvrtc", compiler) == CUBIN
    assert file.read_bytes() == CUBIN


def test_it_is_done_without_where_nothing_can_be_written(compiler, home):
    """A file stands in its place."""
    home.parent.mkdir()
    home.write_text("in the way")
    for _ in range(2):
        assert cubin_cache.compiled("source", "nvrtc", compiler) == CUBIN
    assert compiler.calls == 2
    cubin_cache.prune()


def test_what_was_not_used_for_longest_goes(compiler, home):
    """Until half of what is allowed is left; nothing, if it is not too much."""
    for number in range(6):
        cubin_cache.compiled(str(number), "nvrtc", compiler)
        (new,) = (f for f in home.iterdir() if f.stat().st_mtime > 10)
        os.utime(new, (number, number))
    cubin_cache.compiled("0", "nvrtc", compiler)  # the oldest is used once more
    cubin_cache.prune(6 * len(CUBIN))
    assert len(list(home.iterdir())) == 6
    cubin_cache.prune(5 * len(CUBIN))
    assert len(list(home.iterdir())) == 2
    assert compiler.calls == 6
    cubin_cache.compiled("0", "nvrtc", compiler)
    assert compiler.calls == 6
