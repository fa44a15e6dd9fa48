"""A Gaussian process over configs: what each knob does, and what each two do together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from chameleon_ray.cost_model.kernels import Matrix, choice_kernel
from chameleon_ray.space import Configs, DesignSpace

Groups = tuple[tuple[int, ...], ...]

_MAIN, _PAIR, _NOISE = 0.1, 0.03, 0.05  # where the search for the variances begins, and their prior
_WIDTH = 1.5  # of that prior, in units of the logarithm
_JITTER = 1e-4
_RANK = 16  # of a knob's kernel, for drawing from the prior
_CHUNK = 8192  # configs scored at a time: what they need stays in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Functions of a config, each a sum of terms that one knob or two knobs decide.

    Attributes:
        groups: The knobs of each term.
        tables: For each term, float32 `(choices, functions)`: of two knobs, the choices of the
            first vary slowest.
        means: What is added to each function, float32 `(functions,)`.
    """

    groups: Groups
    tables: tuple[npt.NDArray[np.float32], ...]
    means: npt.NDArray[np.float32]

    def __call__(self, space: DesignSpace, configs: Configs) -> npt.NDArray[np.float32]:
        """Every function at every config, float32 `(functions, n)`."""
        out = np.tile(self.means, (len(configs), 1))
        for start in range(0, len(configs), _CHUNK):
            columns = configs[start : start + _CHUNK].T.astype(np.intp)
            sums = out[start : start + _CHUNK]
            term = np.empty_like(sums)
            for group, table in zip(self.groups, self.tables, strict=True):
                place = columns[group[0]]
                for knob in group[1:]:
                    place = place * int(space.sizes[knob]) + columns[knob]
                sums += np.take(table, place, axis=0, out=term, mode="clip")  # "raise" would copy
        return out.T

    @property
    def functions(self) -> int:
        """How many there are."""
        return len(self.means)

    def only(self, *functions: int) -> Tables:
        """Some of them, in this order."""
        tables = tuple(table[:, functions] for table in self.tables)
        return replace(self, tables=tables, means=self.means[list(functions)])


class AnovaProcess:
    """A Gaussian process over the configs of a space.

    Its covariance is a sum over knobs and over pairs of knobs (a functional ANOVA up to the second
    order; Durrande et al., 2013), each term with a variance of its own. The variances are those
    under which the measurements are most probable, given a log-normal prior.

    Args:
        space: Whose configs.
    """

    def __init__(self, space: DesignSpace) -> None:
        self._kernels = [choice_kernel(knob) for knob in space.knobs]
        live = [i for i, kernel in enumerate(self._kernels) if kernel.any()]
        pairs = itertools.combinations(live, 2)
        self.groups: Groups = (*((i,) for i in live), *pairs)
        self._roots = [_root(kernel) for kernel in self._kernels]
        self._prior = np.log([_MAIN if len(g) == 1 else _PAIR for g in self.groups] + [_NOISE])
        self._logs = self._prior.copy()

    def fit(self, configs: Configs, labels: Matrix) -> None:
        """Find the variances; a later call goes on from those of the one before.

        Args:
            configs: int32 `(n, knobs)`.
            labels: `(n,)`, of mean 0 and variance 1.
        """
        n = len(configs)
        parts = self._parts(configs).reshape(-1, n * n)

        def loss(logs: Matrix) -> tuple[float, Matrix]:
            variances = np.exp(logs)
            covariance = (variances[:-1] @ parts).reshape(n, n)
            covariance[np.diag_indices(n)] += variances[-1] + _JITTER
            try:
                factor = cho_factor(covariance, lower=True, check_finite=False)
            except LinAlgError:
                return 1e10, np.zeros_like(logs)
            alpha = cho_solve(factor, labels)
            slope = np.outer(alpha, alpha) - cho_solve(factor, np.eye(n))
            off = (logs - self._prior) / _WIDTH
            evidence = -0.5 * labels @ alpha - np.log(np.diag(factor[0])).sum() - 0.5 * off @ off
            gradient = np.append(parts @ slope.ravel(), np.trace(slope)) * 0.5 * variances
            return -float(evidence), off / _WIDTH - gradient

        bounds = [(-9.0, 2.0)] * len(self._prior)
        found = minimize(
            loss, self._logs, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15}
        )
        self._logs = found.x

    def posterior(
        self, configs: Configs, labels: Matrix, *, draws: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], ...]:
        """The posterior mean and functions drawn from the posterior, as tables.

        Drawn as Wilson et al. (2020) do: a function of the prior, and the mean of what it leaves
        of the measurements.

        Returns:
            For each group, float32 `(choices, 1 + draws)`: the mean is the first function.
        """
        variances = np.exp(self._logs)
        n = len(configs)
        covariance = self._covariance(configs, variances)
        covariance[np.diag_indices(n)] += variances[-1] + _JITTER
        factor = cho_factor(covariance, lower=True, check_finite=False)
        prior = [self._draw(g, v, draws, rng) for g, v in zip(self.groups, variances, strict=False)]
        places = [self._places(configs, group) for group in self.groups]
        drawn = sum(table[place] for table, place in zip(prior, places, strict=True))
        noise = rng.standard_normal((n, draws)) * np.sqrt(variances[-1] + _JITTER)
        rest = np.concatenate([labels[:, None], labels[:, None] - drawn - noise], axis=1)
        weights = cho_solve(factor, rest)
        tables = []
        for group, variance, table in zip(self.groups, variances, prior, strict=False):
            update = variance * (self._rows(group, configs) @ weights)
            update[:, 1:] += table
            tables.append(update.astype(np.float32))
        return tuple(tables)

    def _covariance(self, configs: Configs, variances: Matrix) -> Matrix:
        """Covariance of the configs, `(n, n)`; that of each group is not kept."""
        total, alike = np.zeros((len(configs), len(configs))), self._alike(configs)
        for group, variance in zip(self.groups, variances, strict=False):
            total += reduce(np.multiply, (alike[knob] for knob in group)) * variance
        return total

    def _alike(self, configs: Configs) -> dict[int, Matrix]:
        """Of each knob, the covariance of the configs' choices at variance 1, `(n, n)`."""
        live = [group[0] for group in self.groups if len(group) == 1]
        return {k: self._kernels[k][np.ix_(configs[:, k], configs[:, k])] for k in live}

    def _parts(self, configs: Configs) -> npt.NDArray[np.float64]:
        """Covariance of the configs under each group at variance 1, `(groups, n, n)`."""
        n, alike = len(configs), self._alike(configs)
        parts = [reduce(np.multiply, (alike[knob] for knob in group)) for group in self.groups]
        return np.array(parts).reshape(-1, n, n)

    def _places(self, configs: Configs, group: Sequence[int]) -> npt.NDArray[np.intp]:
        """The row of each config in the table of a group, `(n,)`."""
        place = configs[:, group[0]].astype(np.intp)
        for knob in group[1:]:
            place = place * len(self._kernels[knob]) + configs[:, knob]
        return place

    def _rows(self, group: Sequence[int], configs: Configs) -> Matrix:
        """Covariance between every row of a group's table and the configs, `(choices, n)`."""
        rows = self._kernels[group[0]][:, configs[:, group[0]]]
        for knob in group[1:]:
            other = self._kernels[knob][:, configs[:, knob]]
            rows = (rows[:, None, :] * other[None, :, :]).reshape(-1, len(configs))
        return rows

    def _draw(
        self, group: Sequence[int], variance: float, draws: int, rng: np.random.Generator
    ) -> Matrix:
        """A group's table under the prior, `(choices, draws)`."""
        roots = [self._roots[knob] for knob in group]
        if len(roots) == 1:
            table = roots[0] @ rng.standard_normal((roots[0].shape[1], draws))
        else:
            one, other = roots
            luck = rng.standard_normal((draws, one.shape[1], other.shape[1]))
            table = (one @ luck @ other.T).transpose(1, 2, 0).reshape(-1, draws)
        scaled: Matrix = table * np.sqrt(variance)
        return scaled


def _root(kernel: Matrix) -> Matrix:
    """A matrix `(choices, rank)` whose product with its transpose is the kernel, or nearly."""
    values, vectors = np.linalg.eigh(kernel)
    kept = np.argsort(-values)[:_RANK]
    root: Matrix = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return root
