"""The paper's evaluation on recorded spaces: `make paper` writes docs/paper.md and its figures.

Goes on where it stopped: finished searches lie in --out, as those of `chameleon-ray compare`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from paper_numbers import Run
from paper_page import OTHERS, Evaluation, page
from paper_searches import read_watched, recorded_costs, watched_search
from paper_text import COLUMNS, Place, make_command
from rich.console import Console
from search_quality import STRATEGIES, peer_searches

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import NamedPolicy, Standing, Wanted, compare, complete
from chameleon_ray.errors import ChameleonError, SettingsError
from chameleon_ray.measure.recorded import RecordedSpace, load_recorded, shipped
from chameleon_ray.presets import load_policy
from chameleon_ray.searches import SEARCHES, SearchKey, policy_digest, space_digest

OUT, DOCS = Path("runs/paper"), Path("docs")


def evaluate(options: argparse.Namespace) -> Evaluation:
    """Make, or find, all searches; those of the columns are watched round by round."""
    spaces = {name: load_recorded(name) for name in options.spaces or shipped()}
    screen = Console(stderr=True)
    columns = [load_policy(name) for name in COLUMNS.values()]
    others = [load_policy(name) for name in OTHERS]

    def tell(standing: Standing) -> None:
        if standing.done in (standing.kept, standing.total) or standing.done % 20 == 0:
            screen.print(f"{standing.done} of {standing.total} searches", highlight=False)

    given: dict[str, Any] = {"seeds": parse_seeds(options.seeds), "trials": options.trials}
    common: dict[str, Any] = {"out": options.out, "on_progress": tell}
    searches = compare(list(spaces.values()), others, **given, **common)
    wanted = _wanted(spaces, columns, options)
    for unwatched in (w.key for w in wanted if read_watched(options.out, w.key) is None):
        (options.out / SEARCHES / unwatched.file).unlink(missing_ok=True)
    watched = complete(wanted, watched_search, **common)
    costs = {space.name: recorded_costs(name, space) for name, space in spaces.items()}
    runs: dict[str, list[Run]] = {name: [] for name, _ in columns}
    for w, search in zip(wanted, watched, strict=True):
        seen = read_watched(options.out, w.key)
        if seen is None:
            raise SettingsError(f"{options.out}: files of searches were removed meanwhile.")
        cost = costs[w.recorded.name]
        run = Run(recorded=w.recorded, search=search, watched=seen, costs=cost)
        runs[w.key.policy].append(run)
    searches = [run.search for of in runs.values() for run in of] + searches
    if _installed("kernel_tuner"):
        searches += peer_searches(list(spaces.values()), STRATEGIES, **given, **common)
    return Evaluation(spaces=spaces, searches=searches, runs=runs, trials=options.trials)


def _wanted(
    spaces: Mapping[str, RecordedSpace], policies: list[NamedPolicy], options: argparse.Namespace
) -> list[Wanted]:
    """The searches of the columns."""
    digests = {space.name: space_digest(space) for space in spaces.values()}
    return [
        Wanted(
            key=SearchKey(
                space=space.name,
                space_digest=digests[space.name],
                policy=name,
                policy_digest=policy_digest(policy),
                seed=seed,
                trials=options.trials,
            ),
            recorded=space,
            how=(policy, str(options.out.resolve())),
        )
        for seed in parse_seeds(options.seeds)
        for space in spaces.values()
        for name, policy in policies
    ]


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Search, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spaces", nargs="*", help="recorded spaces; by default the shipped ones")
    parser.add_argument("--seeds", default="0-19", help="such as 0-19")
    parser.add_argument("--trials", type=int, default=512, help="measurements of each search")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of searches")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page goes")
    options = parser.parse_args()
    try:
        found = evaluate(options)
    except ChameleonError as error:
        sys.exit(f"paper: {error}")
    place = Place(
        folder=options.docs / "paper",
        command=_command(options),
        searches=str(options.out),
        row="space",
    )
    text = "\n\n".join(page(found, place))
    (options.docs / "paper.md").write_text(text + "\n", encoding="utf-8")
    print(options.docs / "paper.md")


def _command(options: argparse.Namespace) -> str:
    """What writes this page anew, given in the folder where this command was given."""
    if (options.out, options.docs) == (OUT, DOCS):
        return make_command(
            "paper",
            {
                "SPACES": " ".join(options.spaces),
                "SEEDS": options.seeds,
                "MEASUREMENTS": str(options.trials),
            },
        )
    given = [*options.spaces, "--seeds", options.seeds, "--trials", str(options.trials)]
    given += ["--out", str(options.out), "--docs", str(options.docs)]
    return shlex.join(["python", "benchmarks/paper.py", *given])


if __name__ == "__main__":
    main()
