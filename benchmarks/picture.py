"""The report of a run folder as an SVG picture: how docs/result.svg was made."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from chameleon_ray import history, report


def main() -> None:
    """Draw the table of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("picture", type=Path, help="where the SVG goes")
    options = parser.parse_args()
    console = Console(record=True, width=104, quiet=False)
    report.print_table(history.load(options.run).result, console)
    console.save_svg(str(options.picture), title="chameleon-ray show")


if __name__ == "__main__":
    main()
