"""The paper's evaluation on recorded spaces: `make paper` writes docs/paper.md and its figures.

Goes on where it stopped: finished searches lie in --out, as those of `chameleon-ray compare`.
"""

from __future__ import annotations

import argparse
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from paper_numbers import Run
from paper_page import COLUMNS, Evaluation, page
from paper_searches import read_watched, recorded_costs, watched_search
from rich.console import Console
from search_quality import STRATEGIES, peer_searches

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing, Wanted, compare, complete
from chameleon_ray.errors import ChameleonError
from chameleon_ray.measure.recorded import load_recorded, shipped
from chameleon_ray.presets import load_policy
from chameleon_ray.searches import SearchKey, policy_digest, space_digest

POLICIES = (*COLUMNS.values(), "autotvm_diversity", "genetic", "random")


def evaluate(options: argparse.Namespace) -> Evaluation:
    """Make, or find, all searches."""
    spaces = {name: load_recorded(name) for name in options.spaces or shipped()}
    seeds, screen = parse_seeds(options.seeds), Console(stderr=True)
    policies = [load_policy(name) for name in POLICIES]

    def tell(standing: Standing) -> None:
        if standing.done in (standing.kept, standing.total) or standing.done % 20 == 0:
            screen.print(f"{standing.done} of {standing.total} searches", highlight=False)

    wanted = [
        Wanted(
            key=SearchKey(
                space=space.name,
                space_digest=space_digest(space),
                policy=name,
                policy_digest=policy_digest(policy),
                seed=seed,
                trials=options.trials,
            ),
            recorded=space,
            how=(policy, str(options.out)),
        )
        for seed in seeds[: options.watched]
        for space in spaces.values()
        for name, policy in policies
        if name in COLUMNS.values()
    ]
    for unwatched in (w.key for w in wanted if read_watched(options.out, w.key) is None):
        (options.out / unwatched.file).unlink(missing_ok=True)
    common: dict[str, Any] = {"out": options.out, "on_progress": tell}
    watched = complete(wanted, watched_search, **common)
    common |= {"seeds": seeds, "trials": options.trials}
    searches = compare(list(spaces.values()), policies, **common)
    if _installed("kernel_tuner"):
        searches += peer_searches(list(spaces.values()), STRATEGIES, **common)
    costs = {space.name: recorded_costs(name, space) for name, space in spaces.items()}
    runs: dict[str, list[Run]] = {}
    for w, search in zip(wanted, watched, strict=True):
        seen = read_watched(options.out, w.key)
        if seen is not None:
            run = Run(
                recorded=w.recorded, search=search, watched=seen, costs=costs[w.recorded.name]
            )
            runs.setdefault(w.key.policy, []).append(run)
    return Evaluation(spaces=spaces, searches=searches, runs=runs, trials=options.trials)


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
    parser.add_argument("--watched", type=int, default=3, help="seeds watched round by round")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of searches")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the page goes")
    options = parser.parse_args()
    names = " ".join(Path(space).name for space in options.spaces)
    spaces = f' SPACES="{names}"' if names else ""
    command = f"make paper{spaces} SEEDS={options.seeds} MEASUREMENTS={options.trials}"
    try:
        found = evaluate(options)
    except ChameleonError as error:
        sys.exit(f"paper: {error}")
    text = "\n\n".join(page(found, command, options.docs / "paper"))
    (options.docs / "paper.md").write_text(text + "\n", encoding="utf-8")
    print(options.docs / "paper.md")


if __name__ == "__main__":
    main()
