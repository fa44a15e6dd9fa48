"""What a search of settings came to, in sentences: for the page, the preset and the terminal."""

from __future__ import annotations

from chameleon_ray.policy_search.declared import value_of
from chameleon_ray.policy_search.experiment import own_sample
from chameleon_ray.policy_search.ranges import Value
from chameleon_ray.policy_search.samples import scored
from chameleon_ray.policy_search.search import Found
from chameleon_ray.score_report import difference_in_words
from chameleon_ray.scores import Row, Table

_SURE = 0.05  # largest p of a difference that is taken for one


def written(value: Value) -> str:
    """A value as a preset has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def notes(found: Found) -> list[str]:
    """What was searched, and what was best there."""
    plan, how = found.plan, found.plan.how
    spaces = ", ".join(plan.ground.kernels)
    proposed = "Optuna's TPE" if how.searcher == "optuna" else "random draws"
    rungs = ", ".join(map(str, how.rungs(len(plan.seeds))))
    stopped = {
        "asha": f"ASHA stops the worse half after {rungs} of them" if rungs else "none is stopped",
        "pbt": "PBT lets the worst quarter of a population copy the best, and change it",
        "none": "none is stopped",
    }[how.scheduler]
    searched = (
        f"{len(scored(found.evaluations))} settings of {plan.base_name} on {spaces}: "
        f"{plan.trials} attempts, {len(plan.seeds)} seeds, {proposed}; {stopped}. A score is the "
        "mean of those after 16, 32, ... attempts, as `compare` tabulates them, over the spaces."
    )
    told = [searched]
    if found.is_base:
        told.append(
            f"The best is {plan.base_name} itself: nothing sampled is better, even where it was "
            "chosen."
        )
    else:
        own = own_sample(plan.base, plan.declared.ranges)
        base = next((s for s in scored(found.evaluations) if s.settings == own), None)
        against = f" against {base.mean:.4f} of {plan.own_name}" if base else ""
        told.append(
            f"The best has {changes(found)}: {found.winner.mean:.4f}{against}, on the seeds that "
            "it was chosen by, which flatters it; what it is worth, the spaces left out tell."
        )
    return told


def changes(found: Found) -> str:
    """What the winner has and the base policy has not."""
    base = found.plan.base
    settings = found.plan.declared.all_of(found.winner.settings)
    differing = [
        f"{name} {written(value)} ({written(value_of(base, name))})"
        for name, value in settings.items()
        if value != value_of(base, name)
    ]
    return ", ".join(differing) or "no other settings"


def verdict_in_words(found: Found) -> list[str]:
    """What the spaces left out say."""
    plan = found.plan
    if not found.verdict:
        why = (
            "nothing was judged, as asked for."
            if not plan.judge_seeds
            else "all spaces are of one kernel, so none can be left out."
        )
        return [f"Not told: {why} Compare the preset with {plan.base_name} on other spaces."]
    last = found.verdict[-1]
    base, chosen = last.rows
    scores = [
        f"after {n} attempts {c.mean:.3f} against {b.mean:.3f} "
        f"({difference_in_words(d, '.3f').replace(chr(10), ', ')})"
        for n, b, c, d in zip(
            last.points, base.scores, chosen.scores, chosen.differences, strict=False
        )
    ]
    judged = (
        "Each kernel was left out in turn: all samples were scored without it, and the best on the "
        f"others searched it with {len(plan.judge_seeds)} fresh seeds, beside {plan.base_name}. "
        f"Mean over {last.spaces} spaces of {last.kernels} kernels: {'; '.join(scores)}."
    )
    return [judged, conclusion(last, plan.base_name)]


def conclusion(table: Table, base: str) -> str:
    """Whether choosing settings elsewhere helps, in one sentence."""
    better, worse = _sure(table.rows[1], 1), _sure(table.rows[1], -1)
    at = ", ".join(f"after {table.points[n]}" for n in (better or worse))
    if better and not worse:
        return (
            f"Settings chosen elsewhere are better than those of {base} ({at} attempts), on "
            "these spaces."
        )
    if worse and not better:
        return (
            f"Settings chosen elsewhere are WORSE than those of {base} ({at} attempts): what "
            "was best on some spaces is not on others. Do not prefer the preset."
        )
    return (
        f"No difference to {base} can be seen where settings were not chosen: do not prefer the "
        "preset without a trial on your own spaces."
    )


def _sure(row: Row, sign: int) -> list[int]:
    """At which points there is a difference of that sign."""
    return [
        n
        for n, d in enumerate(row.differences[:-1])
        if d.mean is not None and d.p is not None and d.p < _SURE and d.mean * sign > 0
    ]
