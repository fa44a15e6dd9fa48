"""What is left of a search of settings: the preset, and the page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from chameleon_ray.policy_search.page import write_search_page
from chameleon_ray.policy_search.preset import write_preset
from chameleon_ray.policy_search.search import Found
from chameleon_ray.policy_search.words import notes, verdict_in_words

PRESET = "policy.yaml"


def write_results(found: Found) -> tuple[Path, Path]:
    """Write the winner as a preset, and the page.

    Returns:
        The preset, which `--policy` takes, and the page.

    Raises:
        ChameleonError: They cannot be written.
    """
    plan = found.plan
    path = plan.out / PRESET
    described = replace(found.policy, description=f"settings of {plan.base_name}, searched")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    origin = f"HOW it searches: written by `chameleon-ray search-policy` on {today}."
    write_preset(path, described, [origin, *notes(found), *verdict_in_words(found)])
    page, *_ = write_search_page(found)
    return path, page
