"""Tunes a matrix product in C: its tiles, the order of its loops, the flags of its compiler.

python examples/matmul.py
python examples/matmul.py --trials 100 --cc clang --run runs/matmul

Takes about half a minute. Every candidate is compiled, checked against numpy and timed, all in the
function `measure`; the rest is `tune_function`. The shortest of many times is a lucky one, so the
untuned form and the five best are timed once more in the end, in turns.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import itertools
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from chameleon_ray import Attempt, tune_function
from chameleon_ray.errors import ChameleonError

Matrix = npt.NDArray[np.float32]
Config = dict[str, int | bool | str]

SOURCE = Path(__file__).with_suffix(".c")
UNTUNED: Config = {"order": "ijk", "flags": "-O3", "unroll": False}  # and one tile, the whole


class Product:
    """The product of two random matrices, to be computed by whatever a config compiles to."""

    def __init__(self, size: int, compiler: list[str], folder: Path) -> None:
        rng = np.random.default_rng(0)
        self._size, self._compiler, self._folder = size, compiler, folder
        self._a, self._b = rng.standard_normal((2, size, size), dtype=np.float32)
        self._right = self._a @ self._b
        self._number = itertools.count()

    def measure(self, config: Config) -> list[float]:
        """Seconds of each repeat. What does not compile or computes something else raises."""
        call = self.checked(config)
        return [_seconds(call) for _ in range(3)]

    def checked(self, config: Config) -> Callable[[], None]:
        """The product as a config compiles it. Raises as `measure` does."""
        function = self._compiled(config)
        c = np.full_like(self._right, np.nan)
        function(self._a, self._b, c)
        np.testing.assert_allclose(c, self._right, atol=1e-3 * self._size**0.5)
        return lambda: function(self._a, self._b, c)

    def by_numpy(self) -> None:
        """The product as numpy computes it."""
        self._a @ self._b

    def _compiled(self, config: Config) -> ctypes._NamedFuncPointer:
        library = self._folder / f"matmul{next(self._number)}.so"
        first, second, third = list(str(config["order"]))
        defines = {"SIZE": self._size, "FIRST": first, "SECOND": second, "THIRD": third}
        defines |= {f"TILE_{x}": config[f"tile_{x}"] for x in "ijk"}
        flags = [*str(config["flags"]).split(), *["-funroll-loops"] * bool(config["unroll"])]
        options = [*flags, *(f"-D{name}={value}" for name, value in defines.items())]
        command = [*self._compiler, *options, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
        function = ctypes.CDLL(str(library)).matmul
        function.argtypes = [np.ctypeslib.ndpointer(np.float32, flags="C")] * 3
        function.restype = None
        return function


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(*calls: Callable[[], None]) -> list[float]:
    """Median seconds of each call: what slows the machine down for a while slows all of them."""
    turns = [[_seconds(call) for call in calls] for _ in range(9)]
    return [statistics.median(seconds) for seconds in zip(*turns, strict=True)]


def knobs(size: int) -> dict[str, list[int | bool | str]]:
    """What may be chosen; a tile as large as the matrix is no tile."""
    tiles = [n for n in (4, 8, 16, 32, 64, 128, 256) if n < size and size % n == 0]
    return {
        "tile_i": [*tiles, size],
        "tile_j": [*tiles, size],
        "tile_k": [*tiles, size],
        "order": ["".join(order) for order in itertools.permutations("ijk")],
        "unroll": [False, True],
        "flags": ["-O2", "-O3", "-O3 -march=native", "-O3 -march=native -ffast-math"],
    }


def compiler_command(given: str | None) -> list[str]:
    """The C compiler: `--cc`, `$CC`, the system's, or the one of the package ziglang.

    Raises:
        SystemExit: There is none.
    """
    named = shlex.split(given or os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    if named:
        sys.exit(f"{shlex.join(named)}: no such compiler; name another with --cc.")
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    sys.exit("No C compiler. Install gcc or clang, or `pip install ziglang`, or name one: --cc.")


def main() -> None:
    """Tune, and say what it gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="rows of the matrices")
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--policy", default="chameleon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cc", help="C compiler")
    parser.add_argument("--run", help="folder of a journal, to go on later")
    given = parser.parse_args()
    command = compiler_command(given.cc)
    untuned = UNTUNED | {f"tile_{x}": given.size for x in "ijk"}
    best: list[float] = []

    def tell(attempt: Attempt) -> None:
        if attempt.seconds and attempt.seconds < min(best, default=float("inf")):
            best.append(attempt.seconds)
            print(f"{attempt.seconds * 1e3:9.2f} ms  {attempt.config}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        product = Product(given.size, command, Path(folder))
        try:
            result = tune_function(
                product.measure,
                knobs(given.size),
                restrictions=["tile_i * tile_j * tile_k >= 2**12"],
                policy=given.policy,
                trials=given.trials,
                seed=given.seed,
                default=untuned,
                run=given.run,
                on_measurement=tell,
            )
        except ChameleonError as error:
            sys.exit(f"matmul: {error}")
        print(f"\n{result}\n")
        if result.default_seconds is None:
            sys.exit(f"The untuned form failed:\n{result.history[0].message}")
        valid = [attempt for attempt in result.history if attempt.seconds]
        ranked = sorted(valid, key=lambda attempt: attempt.seconds or 0)
        best_configs = [attempt.config for attempt in ranked[:5]]
        slow, *seconds = in_turns(*map(product.checked, [untuned, *best_configs]))
        (numpy,) = in_turns(product.by_numpy)
        fast = min(seconds)
        print("Timed once more, in turns:")
        print(f"untuned {slow * 1e3:9.2f} ms  (three loops, -O3)")
        print(f"tuned   {fast * 1e3:9.2f} ms  {best_configs[seconds.index(fast)]}")
        print(f"numpy   {numpy * 1e3:9.2f} ms  (its BLAS, all cores)")
        print(f"ratio   {slow / fast:9.2f}  untuned / tuned")


if __name__ == "__main__":
    main()
