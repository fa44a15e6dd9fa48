"""The layers of the paper's Table 5, live on this CPU: `make paper-cpu`, docs/paper-cpu.md.

Tunes each of three networks with each policy and seed, one run after another, in the folders of
`chameleon-ray compare --network`; goes on where it stopped. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from paper_cpu_page import page
from paper_live import Network
from paper_text import COLUMNS, Place, make_command
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing
from chameleon_ray.compare_network import compare_network
from chameleon_ray.errors import ChameleonError
from chameleon_ray.plan import Plan, make_plan

# Those of Table 5, and layer 4 of ResNet-18, to have four of the network that is compared most.
LAYERS = {"alexnet": (1, 4), "vgg16": (1, 2, 4), "resnet18": (4, 6, 9, 11)}
OUT, DOCS, ENV = Path("runs/paper-cpu"), Path("docs"), "cpu"


def main() -> None:
    """Tune, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0-4", help="such as 0-4")
    parser.add_argument("--trials", type=int, default=128, help="measurements of each layer")
    parser.add_argument("--env", default=ENV, help="what is measured")
    parser.add_argument("--out", type=Path, default=OUT, help="run folders")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page goes")
    options = parser.parse_args()
    try:
        found = {network: tune_network(network, options) for network in LAYERS}
    except ChameleonError as error:
        sys.exit(f"paper_cpu: {error}")
    place = Place(
        folder=options.docs / "paper",
        prefix="cpu-",
        command=_command(options),
        searches=str(options.out),
        row="layer",
    )
    text = "\n\n".join(page(found, place, trials=options.trials))
    (options.docs / "paper-cpu.md").write_text(text + "\n", encoding="utf-8")
    print(options.docs / "paper-cpu.md")


def tune_network(network: str, options: argparse.Namespace) -> Network:
    """Tune a network with every column and seed, or find that done."""
    screen = Console(stderr=True)

    def tell(standing: Standing) -> None:
        screen.print(f"{network}: {standing.done} of {standing.total} runs", highlight=False)

    def plan(policy: str, seed: int) -> Plan:
        return make_plan(
            network,
            env=options.env,
            policy=policy,
            layers=LAYERS[network],
            trials=options.trials,
            time_budget_seconds=None,
            seed=seed,
            address=None,
            cold=True,
        )

    live = compare_network(
        network,
        tuple(COLUMNS.values()),
        env=options.env,
        layers=LAYERS[network],
        seeds=parse_seeds(options.seeds),
        trials=options.trials,
        out=options.out,
        on_progress=tell,
    )
    return Network.of(live, plan)


def _command(options: argparse.Namespace) -> str:
    """What writes this page anew, given in the folder where this command was given."""
    if (options.out, options.docs, options.env) == (OUT, DOCS, ENV):
        variables = {"CPU_SEEDS": options.seeds, "CPU_MEASUREMENTS": str(options.trials)}
        return make_command("paper-cpu", variables)
    given = ["--seeds", options.seeds, "--trials", str(options.trials), "--env", options.env]
    given += ["--out", str(options.out), "--docs", str(options.docs)]
    return shlex.join(["python", "benchmarks/paper_cpu.py", *given])


if __name__ == "__main__":
    main()
