"""Our policies beside Kernel Tuner's own strategies, on the same recorded spaces and budgets.

    pip install -e '.[peers]'
    python benchmarks/search_quality.py SPACE... --seeds 0-19 --trials 512

The searches go into the same folder and form as those of `chameleon-ray compare`, which is not
asked to repeat them; what is there is not searched again.

Kernel Tuner (https://github.com/KernelTuner/kernel_tuner, Apache-2.0) runs in its simulation mode
on a cache file written from the recorded space, with the recorded configurations as its
restriction: failing ones are in it, as for our policies. An attempt is a configuration that was
not evaluated before. `genetic_algorithm` keeps its own settings but for the generations, of which
it gets as many as its budget takes.

`hybrid_vndx` is the product of a search for search algorithms by large language models (Willemsen,
van Stein, van Werkhoven, "Automated Algorithm Design for Auto-Tuning Optimizers", arXiv
2510.17899). The scripts of that work (github.com/XAI-liacs/BLADE, examples/run-kerneltuner*.py)
breed on gemm, convolution, dedispersion and hotspot, one kernel at a time, on the A100, the A4000
and the MI250X, from the hub that recorded spaces such as `convolution_A100`, `convolution_A4000`,
`dedispersion_A100` and `dedispersion_MI250X` come from. Which of the four kernels this algorithm
was bred on we could not find out. On those spaces it may be at home; on the other GPUs it is not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing, Wanted, compare, complete, curves, versions
from chameleon_ray.errors import ChameleonError, SettingsError
from chameleon_ray.measure.recorded import RecordedSpace, kernel_of, load_recorded
from chameleon_ray.presets import load_policy
from chameleon_ray.score_report import print_tables
from chameleon_ray.scores import tabulate
from chameleon_ray.searches import Search, SearchKey, digest, space_digest

STRATEGIES = ("genetic_algorithm", "hybrid_vndx")
POLICIES = ("autotvm", "chameleon")

_KNOWN_FAILURES = ("InvalidConfig", "CompilationFailedConfig", "RuntimeFailedConfig")


def peer_searches(
    spaces: Sequence[RecordedSpace],
    strategies: Sequence[str],
    *,
    seeds: Sequence[int],
    trials: int,
    out: Path,
    on_progress: Any = None,
) -> list[Search]:
    """Kernel Tuner's searches, made or found in `out`; in the order of the strategies.

    Raises:
        SettingsError: Kernel Tuner is not installed.
    """
    try:
        version = metadata.version("kernel_tuner")
    except metadata.PackageNotFoundError:
        raise SettingsError(
            "Kernel Tuner is not installed; `pip install -e '.[peers]'` in the checkout brings it."
        ) from None
    wanted = []
    for seed, recorded, strategy in itertools.product(seeds, spaces, strategies):
        options = strategy_options(strategy, trials, len(recorded.configs))
        key = SearchKey(
            space=recorded.name,
            space_digest=space_digest(recorded),
            policy=f"KT {strategy}",
            policy_digest=digest([version, strategy, options]),
            seed=seed,
            trials=trials,
        )
        wanted.append(Wanted(key=key, recorded=recorded, how=(strategy, options)))
    found = complete(wanted, search_by_strategy, out=out, on_progress=on_progress)
    return sorted(found, key=lambda search: strategies.index(search.key.policy[3:]))


def strategy_options(strategy: str, trials: int, configs: int) -> dict[str, int]:
    """What a strategy is told: the budget, and enough iterations to use it."""
    budget = {"max_fevals": min(trials, configs)}
    if strategy == "genetic_algorithm":
        return budget | {"maxiter": 1000}  # generations; 90 end after 200 to 320 new configs
    if strategy == "hybrid_vndx":
        return budget | {"budget": max(5000, 20 * trials)}  # evaluations, repeated ones included
    return budget


def search_by_strategy(
    recorded: RecordedSpace, key: SearchKey, how: tuple[str, dict[str, int]]
) -> Search:
    """One search by Kernel Tuner in its simulation mode."""
    import kernel_tuner
    from constraint import FunctionConstraint

    strategy, options = how
    values = _values(recorded)
    names = list(values)
    rows = [tuple(values[n][i] for n, i in zip(names, c, strict=True)) for c in recorded.configs]
    present = set(rows)
    random.seed(key.seed)
    np.random.seed(key.seed)  # noqa: NPY002 - Kernel Tuner draws from it
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "cache.json"
        path.write_text(json.dumps(_cache(recorded, values, rows)))
        results, _ = kernel_tuner.tune_kernel(
            "kernel",
            "",
            (1,),
            [],
            values,
            restrictions=[FunctionConstraint(lambda *config: config in present)],
            strategy=strategy,
            strategy_options=dict(options),
            cache=str(path),
            simulation_mode=True,
            quiet=True,
            verbose=False,
            seed=key.seed,
        )
    attempts = dict.fromkeys(tuple(result[name] for name in names) for result in results)
    place = {row: number for number, row in enumerate(rows)}
    chosen = [place[attempt] for attempt in attempts][: key.trials]
    return _search(recorded, key, chosen)


def _search(recorded: RecordedSpace, key: SearchKey, chosen: Sequence[int]) -> Search:
    """What came of attempts at these rows of the recording."""
    times = [float(recorded.seconds[i]) if not recorded.failures[i] else np.inf for i in chosen]
    best = [None if np.isinf(t) else float(t) for t in accumulate(times, min)]
    return Search(
        key=key,
        kernel=kernel_of(recorded),
        reference_seconds=recorded.optimum_seconds,
        best_seconds=tuple(best),
        outcomes=dict(Counter(recorded.failures[i] or "ok" for i in chosen)),
        phase_seconds={},
        device=recorded.device,
        versions=versions() | {"kernel_tuner": metadata.version("kernel_tuner")},
    )


def _values(recorded: RecordedSpace) -> dict[str, list[Any]]:
    """Parameter -> its values; lists, such as our splits, as text, which is all that KT takes."""
    return {
        name: ["x".join(map(str, v)) if isinstance(v, list | tuple) else v for v in values]
        for name, values in recorded.tunables.values.items()
    }


def _cache(
    recorded: RecordedSpace, values: dict[str, list[Any]], rows: Sequence[tuple[Any, ...]]
) -> dict[str, Any]:
    """The recorded space as Kernel Tuner reads it: milliseconds, or the name of a failure."""
    names = list(values)
    entries = {}
    for row, seconds, failure in zip(rows, recorded.seconds, recorded.failures, strict=True):
        failed = failure if failure in _KNOWN_FAILURES else "RuntimeFailedConfig"
        entries[",".join(map(str, row))] = dict(zip(names, row, strict=True)) | {
            "time": failed if failure else float(seconds) * 1e3
        }
    return {
        "device_name": recorded.device or "recorded",
        "kernel_name": "kernel",
        "problem_size": [1],
        "tune_params_keys": names,
        "tune_params": values,
        "objective": "time",
        "cache": entries,
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("space", nargs="+", type=Path, help="a recorded space")
    parser.add_argument("--policy", action="append", help="ours; may be repeated")
    parser.add_argument("--strategy", action="append", help="Kernel Tuner's; may be repeated")
    parser.add_argument("--seeds", default="0-19", help="such as 0-19")
    parser.add_argument("--trials", type=int, default=512, help="attempts of each search")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of searches")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    try:
        run(options)
    except ChameleonError as error:
        sys.exit(f"search_quality: {error}")


def run(options: argparse.Namespace) -> None:
    """Both kinds of searches, and one table."""
    screen = Console(stderr=True)
    spaces = [load_recorded(path) for path in options.space]
    common = {"seeds": parse_seeds(options.seeds), "trials": options.trials, "out": options.out}

    def tell(standing: Standing) -> None:
        screen.print(f"{standing.done} of {standing.total} searches", highlight=False)

    policies = [load_policy(name) for name in options.policy or POLICIES]
    found = compare(spaces, policies, **common, on_progress=tell)
    found += peer_searches(spaces, options.strategy or STRATEGIES, **common, on_progress=tell)
    tables = tabulate(curves(found), trials=options.trials, rng=np.random.default_rng(0))
    print_tables(tables, Console(stderr=options.json))
    if options.json:
        print(json.dumps({"trials": options.trials, "tables": [t.to_json() for t in tables]}))


if __name__ == "__main__":
    main()
