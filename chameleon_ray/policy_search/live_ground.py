"""Where samples are scored: layers of a network, tuned on this machine, one run after another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from chameleon_ray.compare_network import compare_network, run_once
from chameleon_ray.measure.pool import this_node
from chameleon_ray.plan import make_plan
from chameleon_ray.policy_search.grounds import OnProgress, score_of
from chameleon_ray.policy_search.preset import write_preset
from chameleon_ray.searches import Search, digest, policy_digest
from chameleon_ray.settings import Policy
from chameleon_ray.templates import design_space

_WHOLE = 0.6  # of a node: one sample at a time, and what a run asks of the node fits beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGround:
    """Layers of a network. Their times are this machine's, so nothing else is to run meanwhile.

    Attributes:
        network: As `tune` takes it.
        env: Name or path.
        layers: Numbers, by space as in a search's key. Every run tunes all of them.
        chosen: The spaces whose scores count.
        base: What others are scored against.
        trials: Measurements of each layer.
        out: Folder of the run folders, of the finished searches and of the samples' presets.
        digest: Stands for network, layers, env and budget.
    """

    network: str
    env: str
    layers: Mapping[str, int]
    chosen: tuple[str, ...]
    base: Policy
    trials: int
    out: Path
    digest: str

    @property
    def kernels(self) -> Mapping[str, str]:
        """Each layer is its own."""
        return {space: space for space in self.chosen}

    @property
    def resources(self) -> Mapping[str, float]:
        """This machine; the run itself asks for its CPUs."""
        return {this_node(): _WHOLE}

    def only(self, spaces: Collection[str]) -> LiveGround:
        """The same, where only some of the layers count; runs still tune all, and are the same."""
        return replace(self, chosen=tuple(space for space in self.chosen if space in spaces))

    def scores(self, policy: Policy, seed: int) -> dict[str, float]:
        """A run of the policy against one of the base policy with the same seed.

        Nobody knows the shortest time of a layer: the reference is the base policy's best, so that
        the score of a policy that finds a faster one may be above 1.
        """
        best = {s.key.space: s.best_seconds for s in self._run(policy, seed)}
        found = {}
        for base in self._run(self.base, seed):
            space, reference = base.key.space, base.best_seconds[-1] if base.best_seconds else None
            if space in self.chosen:
                found[space] = score_of(best[space], reference, self.trials) if reference else 0.0
        return found

    def judged(
        self, policies: Sequence[tuple[str, Policy]], seeds: Sequence[int], on_progress: OnProgress
    ) -> list[Search]:
        """As `compare --network`: what the runs found is timed once more, in turns."""
        presets = {name: self._preset(policy) for name, policy in policies}
        found = compare_network(
            self.network,
            list(dict.fromkeys(presets.values())),
            env=self.env,
            layers=[self.layers[space] for space in self.chosen],
            seeds=seeds,
            trials=self.trials,
            out=self.out,
            on_progress=on_progress,
        )
        return [
            replace(search, key=replace(search.key, policy=name))
            for name, preset in presets.items()  # two, even if what was chosen is the base policy
            for search in found.searches
            if search.key.policy == preset
        ]

    def _run(self, policy: Policy, seed: int) -> list[Search]:
        plan = make_plan(
            self.network,
            env=self.env,
            policy=self._preset(policy),
            layers=list(self.layers.values()),
            trials=self.trials,
            seed=seed,
            cold=True,  # samples are not to learn from each other
        )
        return run_once(plan, self.out)

    def _preset(self, policy: Policy) -> str:
        """A policy as a file, which runs take."""
        path = self.out / "presets" / f"{policy_digest(policy)}.yaml"
        if not path.is_file():
            write_preset(path, policy, ["A sample of `chameleon-ray search-policy`."])
        return str(path)


def live_ground(
    network: str,
    *,
    env: str,
    layers: Sequence[int],
    policy: str,
    base: Policy,
    trials: int,
    out: Path,
) -> tuple[LiveGround, int]:
    """The layers, and how many configurations the largest of them has, those that fail included.

    Raises:
        ChameleonError: As `tune` raises them before it starts anything.
    """
    plan = make_plan(
        network, env=env, policy=policy, layers=layers, trials=trials, seed=0, cold=True
    )
    spaces = {f"{plan.network.file_name}-{layer.index}": layer for layer in plan.layers}
    of_all = [asdict(plan.env), [layer.task.key for layer in plan.layers], trials]
    ground = LiveGround(
        network=network,
        env=env,
        layers={space: layer.index for space, layer in spaces.items()},
        chosen=tuple(spaces),
        base=base,
        trials=trials,
        out=out.absolute(),
        digest=digest(of_all),
    )
    sizes = [design_space(layer.task, plan.target).size for layer in plan.layers]
    return ground, max(sizes)
