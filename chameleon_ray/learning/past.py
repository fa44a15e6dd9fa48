"""The past as a model: what sources say of the configs of a space that they are not of."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.learning.numbers import Numbers
from chameleon_ray.learning.sources import FLOOR, Source, has_knobs_of, kept_rows
from chameleon_ray.space import Configs, DesignSpace, Features, Vector

Opinions = npt.NDArray[np.float32]

_TREES = 32  # of the forest of all sources
_POOLED_ROWS = 3_000  # of each source in it
_MOST_ROWS = 12_000  # of all of them together
_OWN_TREES = 8  # of a forest of one source, which is asked for what it has measured
_MOST_SOURCES = 16  # those whose layer and device are most alike
_OWN = 500  # from so many rows on, a source has a forest of its own
_MOST_OWN = 8  # the largest of those
_DRAWN = 2048  # configs, the best of which by the draft is as good as the best
_STARTS = 32  # configs that were good elsewhere
_KEPT_ANSWERS = 4  # batches of configs whose answers are kept; a search asks for one over and over


@dataclass(frozen=True, kw_only=True)  # no slots: it is pickled by its __dict__
class Past:
    """What sources say of the configs of one space: a column for each opinion.

    The first opinion is that of one forest of randomised trees over all sources; it sees features
    of knobs, layer and device. Each large source has one of its own besides. Trees grow until they
    know every row: of a config that a source has measured, its forest says the time measured.

    Attributes:
        space: Whose configs are asked for.
        forests: Fitted scikit-learn trees of each opinion.
        columns: Of the space's features, those that the forests see.
        numbers: Of the layer and the device, those that the first forest sees, as logarithms.
        weights: How much each opinion counts before anything is measured, `(opinions,)`.
        elsewhere: Valid configs that are like the best of the sources, int32 `(m, knobs)`.
        used: Names of the sources.
        digest: Of what they teach.
        best_draft: The largest draft of the space, as far as is known; then the draft is the only
            opinion. None: it has no say.
    """

    space: DesignSpace
    forests: tuple[tuple[Any, ...], ...]
    columns: npt.NDArray[np.intp]
    numbers: Vector
    weights: Vector
    elsewhere: Configs
    used: tuple[str, ...]
    digest: str
    best_draft: float | None = None
    _answers: OrderedDict[bytes, Opinions] = field(default_factory=OrderedDict, repr=False)

    def opinions(self, configs: Configs) -> Opinions:
        """The logarithm of the share of the best, as each opinion expects it, `(n, opinions)`."""
        key = np.ascontiguousarray(configs).tobytes()
        if key not in self._answers:
            self._answers[key] = self._asked(configs)
            if len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        return self._answers[key]

    def _asked(self, configs: Configs) -> Opinions:
        seen = np.ascontiguousarray(self.space.features(configs)[:, self.columns])
        both = np.ascontiguousarray(_beside(seen, self.numbers))
        told = [_mean(trees, both if at == 0 else seen) for at, trees in enumerate(self.forests)]
        if self.best_draft is not None and self.space.draft is not None:
            drafts = self.space.draft(self.space.values(configs)) - self.best_draft
            told.append(np.clip(drafts, FLOOR, 0).astype(np.float32))
        return np.array(told).reshape(len(told), len(configs)).T

    def __getstate__(self) -> dict[str, Any]:
        """Without the answers, which are large and can be had again."""
        return self.__dict__ | {"_answers": OrderedDict()}


def past_of(space: DesignSpace, numbers: Numbers, sources: Sequence[Source]) -> Past | None:
    """What sources say of a space; None if none of them has its knobs.

    Args:
        space: Whose configs are asked for.
        numbers: Its layer and its device.
        sources: Of any kind; those with other knobs are left out, and of many those least alike.
    """
    alike = [source for source in sources if has_knobs_of(source, space)]
    alike = sorted(alike, key=lambda source: _distance(numbers, source.numbers))[:_MOST_SOURCES]
    if not alike:
        return None
    names = _shared_features(space, alike)
    tables = [_features(source, names) for source in alike]
    known = _shared_numbers(numbers, alike)
    forests = [_pooled(alike, tables, known)]
    large = sorted(range(len(alike)), key=lambda at: -len(alike[at].configs))[:_MOST_OWN]
    own = [at for at in sorted(large) if len(alike) > 1 and len(alike[at].configs) >= _OWN]
    forests += [_fitted(tables[at], alike[at].labels, trees=_OWN_TREES) for at in own]
    weights = np.full(len(forests), 0.5 / max(1, len(own)), dtype=np.float32)
    weights[0] = 1 - weights[1:].sum()
    return Past(
        space=space,
        forests=tuple(forests),
        columns=np.array([space.feature_names.index(name) for name in names], dtype=np.intp),
        numbers=_logs(numbers, known),
        weights=weights,
        elsewhere=_elsewhere(space, alike),
        used=tuple(source.name for source in alike),
        digest=hashlib.sha256("".join(s.digest for s in alike).encode()).hexdigest()[:16],
    )


def draft_of(space: DesignSpace) -> Past | None:
    """What a space's draft says of it, as the only opinion; None if it has none."""
    best = _best_draft(space)
    if best is None:
        return None
    return Past(
        space=space,
        forests=(),
        columns=np.empty(0, dtype=np.intp),
        numbers=np.empty(0, dtype=np.float32),
        weights=np.ones(1, dtype=np.float32),
        elsewhere=np.empty((0, len(space.knobs)), dtype=np.int32),
        used=(),
        digest="draft",
        best_draft=best,
    )


def _best_draft(space: DesignSpace) -> float | None:
    """The largest draft of many random configs; None without a draft."""
    if space.draft is None:
        return None
    drawn = space.random(_DRAWN, np.random.default_rng(0))
    return float(space.draft(space.values(drawn)).max()) if len(drawn) else None


def _distance(one: Numbers, other: Numbers) -> float:
    """How unlike two layers on two devices are: on the mean, by so many powers of two."""
    shared = [name for name in one if name in other]
    if not shared:
        return math.inf
    ratios = np.array([(one[name] + 1) / (other[name] + 1) for name in shared])
    return float(np.abs(np.log2(ratios)).mean())


def _shared_features(space: DesignSpace, sources: Sequence[Source]) -> list[str]:
    """The features that all have, in the order of the space."""
    others = [set(source.space.feature_names) for source in sources]
    return [name for name in space.feature_names if all(name in other for other in others)]


def _features(source: Source, names: Sequence[str]) -> Features:
    place = {name: at for at, name in enumerate(source.space.feature_names)}
    seen: Features = source.space.features(source.configs)[:, [place[name] for name in names]]
    return seen


def _shared_numbers(numbers: Numbers, sources: Sequence[Source]) -> list[str]:
    """The numbers that are known of all, and are not the same for all sources."""
    known = [n for n in numbers if all(n in source.numbers for source in sources)]
    return [n for n in known if len({source.numbers[n] for source in sources}) > 1]


def _logs(numbers: Numbers, names: Sequence[str]) -> Vector:
    values = np.array([numbers[name] for name in names], dtype=np.float32)
    logs: Vector = np.log2(values + 1)
    return logs


def _beside(features: Features, numbers: Vector) -> Features:
    """Features `(n, f)` with the same numbers behind each row."""
    return np.concatenate([features, np.tile(numbers, (len(features), 1))], axis=1)


def _pooled(
    sources: Sequence[Source], tables: Sequence[Features], known: Sequence[str]
) -> tuple[Any, ...]:
    """The forest of all sources."""
    most = min(_POOLED_ROWS, max(16, _MOST_ROWS // len(sources)))
    rows = [kept_rows(source.seconds, most) for source in sources]
    seen = [
        _beside(table[kept], _logs(source.numbers, known))
        for source, table, kept in zip(sources, tables, rows, strict=True)
    ]
    labels = [source.labels[kept] for source, kept in zip(sources, rows, strict=True)]
    return _fitted(np.concatenate(seen), np.concatenate(labels), trees=_TREES)


def _fitted(features: Features, labels: Vector, *, trees: int) -> tuple[Any, ...]:
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(trees, random_state=0, n_jobs=1).fit(features, labels)
    return tuple(tree.tree_ for tree in forest.estimators_)


def _mean(trees: Sequence[Any], features: Features) -> Vector:
    told = np.zeros(len(features))
    for tree in trees if len(features) else ():
        told += tree.predict(features)[:, 0]
    return np.maximum(told / len(trees), FLOOR).astype(np.float32)


def _elsewhere(space: DesignSpace, sources: Sequence[Source]) -> Configs:
    """What is like the best of the sources, a few of each, as far as it is valid here."""
    each = -(-2 * _STARTS // len(sources))
    best = [s.configs[np.argsort(s.seconds, kind="stable")[:each]] for s in sources]
    alike = [_translated(s.space, space, configs) for s, configs in zip(sources, best, strict=True)]
    ranks = np.concatenate([np.arange(len(configs)) for configs in alike])
    together = np.concatenate(alike)[np.argsort(ranks, kind="stable")]
    return space.distinct(together[space.valid(together)])[:_STARTS]


def _translated(of: DesignSpace, space: DesignSpace, configs: Configs) -> Configs:
    """Configs of another space with the same knobs: of each knob the nearest choice."""
    columns = {knob.name: at for at, knob in enumerate(of.knobs)}
    found = []
    for knob in space.knobs:
        theirs, ours = (
            np.log2(np.array(choices, dtype=np.float64) + 1)
            for choices in (of.knobs[columns[knob.name]].choices, knob.choices)
        )
        gaps = np.abs(theirs[:, None, :] - ours).sum(axis=2)
        found.append(gaps.argmin(axis=1)[configs[:, columns[knob.name]]])
    return np.array(found, dtype=np.int32).reshape(len(space.knobs), -1).T.copy()
