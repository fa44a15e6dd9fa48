"""What a policy can set, with types, limits and defaults: the shape of the files in policies/.

Every number of the paper's Tables 7, 8 and 9 is a default here, named by its table;
`tests/test_paper.py` holds them to the tables. A preset states only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

BOOLEAN = "boolean_for_number"  # the type of that error, for `parsing`


def _no_boolean(value: object) -> object:
    """Python takes true for 1, and a YAML file says true by `yes` and `on` too."""
    if isinstance(value, bool):
        raise PydanticCustomError(BOOLEAN, "a boolean is no number")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_boolean)]
Count = Annotated[Whole, Field(gt=0)]
Seconds = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
NonNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]

_PLUGIN = r"^[\w.]+:\w+$"
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings:
    """Adaptive exploration (section 3.2): PPO walks the space. Defaults: Tables 7 and 9.

    Attributes:
        episodes: Walks of one round (`episode_rl`).
        steps: Most steps of one walk (`step_rl`).
        waves: Groups of episodes, with an update of the agent after each; divides `episodes`.
        batch: `sweep` passes over all steps of a wave each epoch; `draw` takes one minibatch per
            epoch, with replacement, as the paper's code does.
        early_stop: A walk ends when this share of the knobs stays or presses a bound; null lets
            every walk take all its steps.
        starts: `random`, or `best`: a quarter of the walks start at the best measured configs.
        resample_unordered: Knobs without an order jump to a random choice instead of stepping.
        workers: Rollout worker processes; 0 rolls out in the layer's own process.
        agent: `own` is the paper's, made for one space's knobs. `tokens` walks any space, sees what
            the score did after its last steps and is paid for scoring better than before; it knows
            neither `temperature` nor `early_stop`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["ppo"] = "ppo"
    episodes: Count = 128
    steps: Count = 500
    waves: Count = 8
    batch: Literal["sweep", "draw"] = "sweep"
    minibatch: Count = 4096
    learning_rate: NonNegative = 1e-3
    discount: Fraction = 0.9
    gae: Fraction = 0.99
    epochs: Count = 3
    clip: Positive = 0.3
    value_coefficient: NonNegative = 1.0
    entropy_coefficient: NonNegative = 0.1
    temperature: Positive = 0.1
    hidden: Count = 20
    early_stop: Fraction | None = 0.75
    starts: Literal["random", "best"] = "best"
    resample_unordered: bool = True
    workers: Annotated[Whole, Field(ge=0)] = 0
    agent: Literal["own", "tokens"] = "own"

    def __post_init__(self) -> None:
        if self.episodes % self.waves:
            raise ValueError(f"waves ({self.waves}) must divide episodes ({self.episodes})")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnealingSettings:
    """AutoTVM's simulated annealing; defaults: Table 8 and AutoTVM's code.

    Attributes:
        chains: Walkers in parallel (`n_sa`).
        steps: Most steps of one run (`step_sa`).
        early_stop: Stop when the best candidates have not changed for so many steps.
        persistent: Chains go on in the next round from where they stood.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["annealing"] = "annealing"
    chains: Count = 128
    steps: Count = 500
    start_temperature: Positive = 1.0
    early_stop: Count = 50
    persistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneticSettings:
    """AutoTVM's genetic algorithm; defaults: its code.

    Attributes:
        population: Configs of a generation.
        elite: The fittest ever seen that take part in every generation.
        mutation: Chance of each knob to be drawn anew.
        generations: Bred in one round; all of their configs are candidates.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["genetic"] = "genetic"
    population: Count = 100
    elite: Annotated[Whole, Field(ge=0)] = 3
    mutation: Fraction = 0.1
    generations: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSettings:
    """Uniform draws over the valid configs: the baseline that every search must beat.

    Attributes:
        draws: Configs of one round. With as many as a round measures, the score has no say.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["random"] = "random"
    draws: Count = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSettings:
    """Adaptive sampling (section 3.3, Algorithm 1). Defaults: Table 7.

    Attributes:
        variant: `letter` follows Algorithm 1: every k, all knobs. `authors` follows their code:
            k in steps of 8, k-means over the two knobs with the most choices.
        threshold: The knee of the loss curve (`threshold` of Table 7).
        exploit: So many of the best-scored new candidates are measured besides; the paper has none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["adaptive"] = "adaptive"
    variant: Literal["letter", "authors"] = "authors"
    smallest: Count = 8
    largest: Count = 64
    threshold: Annotated[Real, Field(gt=1)] = 2.5
    exploit: Annotated[Whole, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedySettings:
    """The best-scored candidates not yet measured, and a share `epsilon` of random ones.

    Defaults: Table 8 and AutoTVM's code.

    Attributes:
        batch: Configs of a round.
        epsilon: Share of them, rounded down, that is random.
        diversity: If above 1, the batch is chosen for diversity among so many times as many of
            the best-scored (AutoTVM's `diversity_filter_ratio`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["greedy"] = "greedy"
    batch: Count = 64
    epsilon: Fraction = 0.05
    diversity: Annotated[Real, Field(ge=1)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThompsonSettings:
    """Each pick is the best candidate of one member of an ensemble, drawn at random.

    Needs a cost model with members: `staged`, `gaussian` or `forest`.

    Attributes:
        batch: Configs of a round.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["thompson"] = "thompson"
    batch: Count = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprovementSettings:
    """The picks that together promise most improvement, as the members of an ensemble expect it.

    Needs a cost model with members, as `ThompsonSettings`.

    Attributes:
        batch: Configs of a round.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["improvement"] = "improvement"
    batch: Count = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModelSettings:
    """XGBoost regression on fitness (`mode_GBT` = xgb-reg, Tables 7 and 8).

    Defaults: AutoTVM's code.

    Attributes:
        least_gain: Least loss that a cut must save (`gamma`).
        rounds: Most boosting rounds.
        patience: Rounds without a better ranking of the best points before fitting stops.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["xgb"] = "xgb"
    mode: Literal["xgb-reg"] = "xgb-reg"
    max_depth: Count = 3
    learning_rate: Positive = 0.3
    least_gain: NonNegative = 1e-4
    rounds: Count = 8000
    patience: Count = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestSettings:
    """Extremely randomised trees on the logarithm of the time: an ensemble that can be asked.

    Attributes:
        trees: Members.
        clip: Times slower than this quantile of the measured ones, and failures, count as equal
            to it: what is far from good need not be told apart.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["forest"] = "forest"
    trees: Count = 100
    clip: Fraction = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianSettings:
    """A Gaussian process on the logarithm of the time, whose drawn functions are an ensemble.

    Attributes:
        draws: Functions drawn from what the measurements leave open.
        temper: How far these depart from the mean, as a share of how far they would.
        clip: As in `ForestSettings`.
        products: Whether the products of each two knobs have effects of their own.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["gaussian"] = "gaussian"
    products: bool = True
    draws: Count = 8
    temper: Fraction = 0.6
    clip: Fraction = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSettings:
    """A forest while little is measured, then a Gaussian process.

    Attributes:
        until: From so many measurements on, failed ones included, the second answers.
        first: The forest.
        then: The Gaussian process.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["staged"] = "staged"
    until: Count = 32
    first: ForestSettings = field(default_factory=ForestSettings)
    then: GaussianSettings = field(default_factory=GaussianSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSettings:
    """No model: a config's score is its measured fitness, and 0 if it has none."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings:
    """A part of your own: the class `kind` (`package.module:Class`), called with `options`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Annotated[str, Field(pattern=_PLUGIN)]
    options: dict[str, bool | int | float | str] = field(default_factory=dict)


def _by_kind(default: str) -> Discriminator:
    """Chooses a union's member by `kind`, for a mapping as for settings already made."""

    def tag(value: Any) -> str | None:
        if isinstance(value, dict):
            kind = value.get("kind", default)
        else:
            kind = getattr(value, "kind", None)
        return "plugin" if isinstance(kind, str) and ":" in kind else kind

    return Discriminator(tag)


_Plugin = Annotated[PluginSettings, Tag("plugin")]
Explorer = Annotated[
    Annotated[PpoSettings, Tag("ppo")]
    | Annotated[AnnealingSettings, Tag("annealing")]
    | Annotated[GeneticSettings, Tag("genetic")]
    | Annotated[RandomSettings, Tag("random")]
    | _Plugin,
    _by_kind("ppo"),
]
Sampler = Annotated[
    Annotated[AdaptiveSettings, Tag("adaptive")]
    | Annotated[GreedySettings, Tag("greedy")]
    | Annotated[ThompsonSettings, Tag("thompson")]
    | Annotated[ImprovementSettings, Tag("improvement")]
    | _Plugin,
    _by_kind("adaptive"),
]
CostModel = Annotated[
    Annotated[CostModelSettings, Tag("xgb")]
    | Annotated[ForestSettings, Tag("forest")]
    | Annotated[GaussianSettings, Tag("gaussian")]
    | Annotated[StagedSettings, Tag("staged")]
    | Annotated[MeasuredSettings, Tag("measured")]
    | _Plugin,
    _by_kind("xgb"),
]


Schedule = Literal["gain", "round_robin", "fifo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to search: one file of policies/.

    Attributes:
        initial: Configs measured before the cost model's first fit.
        start: How they are drawn: `random`, or `spread` as far apart as can be.
        default: `first`: the search begins with the task's default; `apart`: as in AutoTVM and the
            paper it does not know it; a live run times it at the end, beside the finalists.
        neighbours: Configs one step from the default measured with them; the paper has none.
        draft: Whether arithmetic on what limits the hardware says where to begin, where a space has
            such a draft and nothing was measured of others.
        enumerate: A space of at most so many valid configs is scored whole instead of explored.
        explore_every: One round in so many walks anew; in between, what was found is scored anew.
        features: What the cost model sees of a config: the values of its `knobs`, or besides what
            is `derived` from them.
        candidates: Best-scored distinct configs that a round hands to the sampler (`b_GBT`).
        measurements: Cap per layer without --trials (Table 8; Table 7: "equivalent to 1000").
        pipeline_depth: Batches of a layer under way at a time: the next is chosen while the one
            before it is measured, as if that came out as predicted. 1 is the paper's loop.
        schedule: Which layer of a network is measured next: the one that promises the largest
            `gain`, of the measurements that all layers have together; `round_robin`, a batch each;
            or `fifo`, one layer after another.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    description: str = ""
    initial: Count = 64
    start: Literal["random", "spread"] = "random"
    draft: bool = False
    enumerate: Annotated[Whole, Field(ge=0, le=1_000_000)] = 0
    explore_every: Count = 1
    features: Literal["knobs", "derived"] = "derived"
    default: Literal["first", "apart"] = "first"
    neighbours: Annotated[Whole, Field(ge=0)] = 0
    candidates: Count = 64
    measurements: Count = 1000
    pipeline_depth: Count = 1
    schedule: Schedule = "round_robin"
    explorer: Explorer = field(default_factory=PpoSettings)
    sampler: Sampler = field(default_factory=AdaptiveSettings)
    cost_model: CostModel = field(default_factory=CostModelSettings)

    def __post_init__(self) -> None:
        asking = self.sampler.kind in ("thompson", "improvement")
        if asking and self.cost_model.kind in ("xgb", "measured"):
            raise ValueError(
                f"the sampler {self.sampler.kind} asks the members of an ensemble; the cost model "
                f"{self.cost_model.kind} has none: take {{kind: forest}}, or another sampler"
            )
        if self.default == "apart" and self.neighbours:
            raise ValueError(
                "neighbours are those of the default, which a search with `default: apart` does "
                "not know: leave one of the two out"
            )

    def busy_enough(self, jobs: int) -> Policy:
        """The same with batches of so many at least; a sampler that has no fixed batch stays."""
        sampler = self.sampler
        if isinstance(sampler, AdaptiveSettings | PluginSettings) or sampler.batch >= jobs:
            return self
        return replace(self, sampler=replace(sampler, batch=jobs))
