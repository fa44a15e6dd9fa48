"""What a search of settings is asked for, checked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chameleon_ray.errors import SettingsError
from chameleon_ray.machine import check_cores, usable_cores
from chameleon_ray.measure.recorded import load_recorded, shipped
from chameleon_ray.policy_search.declared import Declared, check, read_declared, value_of
from chameleon_ray.policy_search.experiment import How
from chameleon_ray.policy_search.grounds import Ground, RecordedGround
from chameleon_ray.policy_search.ranges import Range, Value
from chameleon_ray.policy_search.usual import usual
from chameleon_ray.presets import load_policy
from chameleon_ray.searches import digest, policy_digest
from chameleon_ray.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A search of settings.

    Attributes:
        base_name: What the base policy is called.
        base: The policy that is to be bettered.
        declared: Which of its settings are searched, and between what.
        ground: Where they are scored.
        seeds: One for each iteration of a sample.
        judge_seeds: Others, for what was chosen; none: nothing is judged.
        trials: Attempts of each search.
        how: How samples are proposed and stopped.
        out: Folder of all that is kept.
    """

    base_name: str
    base: Policy
    declared: Declared
    ground: Ground
    seeds: tuple[int, ...]
    judge_seeds: tuple[int, ...]
    trials: int
    how: How
    out: Path

    @property
    def own_name(self) -> str:
        """What the sample with the base policy's settings is called: it has the fixed ones, too."""
        fixed = self.declared.fixed.items()
        changed = [name for name, value in fixed if value != value_of(self.base, name)]
        return f"{self.base_name} with the fixed settings" if changed else self.base_name

    @property
    def question(self) -> str:
        """Stands for all that samples and their scores depend on, but their number."""
        how = {**asdict(self.how), "samples": 0, "at_once": 0}
        return digest(
            [
                policy_digest(self.base),
                [[type(r).__name__, asdict(r)] for r in self.declared.ranges],
                dict(self.declared.fixed),
                self.ground.digest,
                list(self.seeds),
                how,
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user asks for.

    Attributes:
        spaces: Recorded spaces: files, or names of shipped ones; these if there are none.
        network: To tune the layers of this on this machine instead; as `tune` takes it.
        layers: Numbers of its layers; all if empty.
        env: With a network: name or path.
        policy: Name or path of the base policy.
        over: File of the ranges; the usual ones if absent.
        seeds: One for each iteration of a sample.
        judge_seeds: Others; may be empty.
        trials: Attempts of each search.
        how: How samples are proposed and stopped.
        out: Folder of all that is kept.
    """

    spaces: tuple[str, ...] = ()
    network: str | None = None
    layers: tuple[int, ...] = ()
    env: str = "cpu"
    policy: str = "chameleon"
    over: Path | None = None
    seeds: tuple[int, ...]
    judge_seeds: tuple[int, ...]
    trials: int
    how: How
    out: Path


def make_plan(asked: Asked) -> Plan:
    """Check what is asked for.

    Raises:
        ChameleonError: A space, network, policy, setting or value that cannot be used; ranges that
            are of no effect on these spaces.
    """
    asked.how.check()
    _check_seeds(asked.seeds, asked.judge_seeds)
    name, base = load_policy(asked.policy)
    ground, most, default = _live(asked, base) if asked.network else _recorded(asked)
    if asked.over is None:
        declared = usual(base, walks=most > base.enumerate, default=default, trials=asked.trials)
        check(declared, base, where=f"the usual ranges of {name}")
    else:
        declared = read_declared(asked.over, base)
        _check_effect(declared, base, most=most, default=default, where=str(asked.over))
    return Plan(
        base_name=name,
        base=base,
        declared=declared,
        ground=ground,
        seeds=asked.seeds,
        judge_seeds=asked.judge_seeds,
        trials=asked.trials,
        how=asked.how,
        out=asked.out,
    )


def _recorded(asked: Asked) -> tuple[Ground, int, bool]:
    """The spaces, the size of the largest, and whether any has a default."""
    recorded = [load_recorded(space) for space in asked.spaces or shipped()]
    names = [space.name for space in recorded]
    twice = next((space for space in names if names.count(space) > 1), None)
    if twice is not None:
        raise SettingsError(f"--space: {twice} stands twice; rename a file, or leave one out.")
    ground = RecordedGround(spaces=tuple(recorded), trials=asked.trials, out=asked.out)
    most = max(len(space.configs) for space in recorded)
    return ground, most, any(space.default is not None for space in recorded)


def _live(asked: Asked, base: Policy) -> tuple[Ground, int, bool]:
    """The layers, how many configurations the largest has, and that they have defaults."""
    from chameleon_ray.policy_search.live_ground import live_ground

    ground, most = live_ground(
        asked.network or "",
        env=asked.env,
        layers=asked.layers,
        policy=asked.policy,
        base=base,
        trials=asked.trials,
        out=asked.out,
    )
    return ground, most, True


def cores_at_once(asked: int | None) -> int:
    """Samples under way at the same time: as many as there are cores, unless fewer are asked for.

    Raises:
        SettingsError: More are asked for.
    """
    check_cores("--at-once", asked or 0, "samples")
    return asked or usable_cores()


def _check_seeds(seeds: Sequence[int], judge_seeds: Sequence[int]) -> None:
    both = sorted(set(seeds) & set(judge_seeds))
    if both:
        raise SettingsError(
            f"--judge-seeds: {both[0]} is among --seeds too. What is chosen by its luck with a "
            "seed is not to be judged by it: give others."
        )


def _check_effect(
    declared: Declared, base: Policy, *, most: int, default: bool, where: str
) -> None:
    """Refuse to search what can change nothing: the forest of samples would be one tree.

    Raises:
        SettingsError: A setting is of no effect on these spaces.
    """
    limit = min(_possible("enumerate", declared, base))
    for r in declared.ranges:
        walked = r.setting.startswith("explorer.") or r.setting == "explore_every"
        if walked and most <= limit:
            raise SettingsError(
                f"{where}: {r.setting} does nothing here: the largest space has {most:,} "
                f"configurations, and up to {limit:,} (enumerate) are scored whole, so that "
                "nothing explores. Write `enumerate: 0` into the file, or search larger spaces."
            )
        if r.setting in {"neighbours", "default"} and not default:
            raise SettingsError(
                f"{where}: {r.setting} does nothing here: no space has a default configuration. "
                "Leave it out."
            )


def _possible(setting: str, declared: Declared, base: Policy) -> list[int]:
    """The values that samples have for a whole number."""
    searched: Range | None = next((r for r in declared.ranges if r.setting == setting), None)
    values: Sequence[Value] = (
        searched.ends()
        if searched is not None
        else [declared.fixed.get(setting, value_of(base, setting))]
    )
    return [value for value in values if isinstance(value, int)]
