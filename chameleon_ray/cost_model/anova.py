"""A Gaussian process over configs: what each knob, each two, and the products of two do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from chameleon_ray.cost_model.kernels import Matrix, choice_kernel
from chameleon_ray.cost_model.products import Product, products
from chameleon_ray.cost_model.tables import Bins, Groups, Tables, binned
from chameleon_ray.space import Configs, DesignSpace, Knob

_WIDTH = 1.5  # of that prior, in units of the logarithm
_JITTER = 1e-4
_RANK = 16  # of a knob's kernel, for drawing from the prior
_WIDEST = 256  # choices of a knob that are told apart
_MOST_CELLS = 2**21  # of the tables of all pairs together; the largest pairs are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Variances:
    """Of each knob's own effect, of what two do together, of a time, and of the level."""

    knob: float
    pair: float
    noise: float
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Functions of the prior.

    Attributes:
        terms: What each group says of its choices, `(choices, functions)`.
        levels: `(functions,)`.
        tables: The same, to be asked.
    """

    terms: Sequence[npt.NDArray[np.float32]]
    levels: Matrix
    tables: Tables


# The level of what was measured is known, not that of all configs
_BEGIN = Variances(knob=0.1, pair=0.03, noise=0.05, level=1.0)


class AnovaProcess:
    """A Gaussian process over the configs of a space.

    Its covariance is a sum of a level, of knobs and of pairs of knobs (a functional ANOVA up to the
    second order; Durrande et al., 2013), each term with a variance of its own. The variances are
    those under which the measurements are most probable, given a log-normal prior.

    Of each two knobs that count something, their product is one more knob: what is known of 8 x 32
    threads tells of 16 x 16, which a pair's own term takes for unlike.

    Of a knob with more than 256 choices, neighbours share a bin.

    Args:
        space: Whose configs.
        multiply: Whether products take part.
        begin: Where the search for the variances begins, and their prior; the level's stays.

    Attributes:
        groups: The one or two columns of `columns_of` that each term is about.
    """

    def __init__(
        self, space: DesignSpace, *, multiply: bool = True, begin: Variances = _BEGIN
    ) -> None:
        self._level = begin.level
        self._bins: Bins = {
            i: np.arange(len(knob)) * _WIDEST // len(knob)
            for i, knob in enumerate(space.knobs)
            if len(knob) > _WIDEST
        }
        knobs = [_coarse(knob) for knob in space.knobs]
        self._kernels = [choice_kernel(knob) for knob in knobs]
        live = [i for i, kernel in enumerate(self._kernels) if kernel.any()]
        self._sizes = tuple(len(knob) for knob in knobs)
        self._pairs = list(self._affordable(live))
        self._products = [_narrow(p) for p in products(knobs, self._pairs)] if multiply else []
        self._kernels += [choice_kernel(p.knob, p.weights) for p in self._products]
        self._live = [*live, *range(len(knobs), len(self._kernels))]
        self._places = tuple(np.searchsorted(live, np.array(self._pairs, int).reshape(-1, 2)).T)
        self._knobs = len(live)  # so many of the live columns are knobs, the others products
        self.groups: Groups = (*((i,) for i in self._live), *self._pairs)
        self._roots = [_root(kernel) for kernel in self._kernels]
        several = len(self._products) + len(self._pairs)
        self._prior = np.log([begin.knob] * len(live) + [begin.pair] * several + [begin.noise])
        self._logs = self._prior.copy()

    def columns_of(self, configs: Configs) -> npt.NDArray[np.intp]:
        """What the terms see of configs `(n, knobs)`, `(columns, n)`: choices, then products."""
        coarse = binned(configs, self._bins)
        return np.array([*coarse.T, *(p.of(coarse) for p in self._products)], dtype=np.intp)

    def fit(self, configs: Configs, labels: Matrix) -> None:
        """Find the variances; a later call goes on from those of the one before.

        Args:
            configs: int32 `(n, knobs)`.
            labels: `(n,)`, of mean 0 and variance 1.
        """
        n, alike, besides = len(configs), self._alike(configs), self._besides(configs)

        def loss(logs: Matrix) -> tuple[float, Matrix]:
            variances = np.exp(logs)
            covariance = self._covariance(alike, variances, n) + besides
            try:
                factor = cho_factor(covariance, lower=True, check_finite=False)
            except LinAlgError:
                return 1e10, np.zeros_like(logs)
            alpha = cho_solve(factor, labels)
            slope = np.outer(alpha, alpha) - cho_solve(factor, np.eye(n))
            off = (logs - self._prior) / _WIDTH
            evidence = -0.5 * labels @ alpha - np.log(np.diag(factor[0])).sum() - 0.5 * off @ off
            gradient = np.append(self._slopes(alike, slope), np.trace(slope)) * 0.5 * variances
            return -float(evidence), off / _WIDTH - gradient

        bounds = [(-9.0, 2.0)] * len(self._prior)
        found = minimize(
            loss, self._logs, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15}
        )
        self._logs = found.x

    def posterior(
        self, configs: Configs, labels: Matrix, *, draws: int, rng: np.random.Generator
    ) -> Tables:
        """The posterior mean and functions drawn from the posterior; the mean is the first.

        Drawn as Wilson et al. (2020) do: a function of the prior, and the mean of what it leaves
        of the measurements.
        """
        prior, factor = self._sample(draws, rng), self._factor(configs)
        rest = self._left(labels, prior.tables(configs), rng)
        return self._updated(prior, configs, cho_solve(factor, rest))

    def evidence(self, configs: Configs, labels: Matrix) -> float:
        """The logarithm of how probable the measurements are, but for a constant of their number.

        Args:
            configs: int32 `(n, knobs)`.
            labels: `(n,)`.
        """
        factor = self._factor(configs)
        fits = labels @ cho_solve(factor, labels)
        return float(-0.5 * fits - np.log(np.diag(factor[0])).sum())

    def _factor(self, configs: Configs) -> Any:
        """Cholesky's factor of the configs' covariance."""
        covariance = self._covariance(self._alike(configs), np.exp(self._logs), len(configs))
        return cho_factor(covariance + self._besides(configs), lower=True, check_finite=False)

    def _besides(self, configs: Configs) -> Matrix:
        """Covariance that is none of a level, a knob or a pair, `(n, n)`: of these here none."""
        return np.zeros((len(configs), len(configs)))

    def _sample(self, draws: int, rng: np.random.Generator) -> Sample:
        """Functions of the prior."""
        variances = np.exp(self._logs)
        drawn = [self._draw(g, v, draws, rng) for g, v in zip(self.groups, variances, strict=False)]
        levels = rng.standard_normal(draws) * np.sqrt(self._level)
        return Sample(terms=drawn, levels=levels, tables=self._tables(drawn, levels))

    def _left(
        self, labels: Matrix, prior: npt.NDArray[np.float32], rng: np.random.Generator
    ) -> Matrix:
        """What the mean, and each function of the prior `(functions, n)`, leaves to explain."""
        noise = rng.standard_normal(prior.T.shape) * np.sqrt(np.exp(self._logs[-1]) + _JITTER)
        return np.concatenate([labels[:, None], labels[:, None] - prior.T - noise], axis=1)

    def _updated(self, prior: Sample, configs: Configs, weights: Matrix) -> Tables:
        """The mean, and the functions of the prior, after the measurements."""
        terms = []
        updates = self._updates(configs, np.exp(self._logs), weights)
        for update, table in zip(updates, prior.terms, strict=True):
            update[:, 1:] += table
            terms.append(update.astype(np.float32))
        return self._tables(terms, self._level * weights.sum(axis=0) + np.append(0, prior.levels))

    def _tables(self, terms: Sequence[npt.NDArray[np.float32]], levels: Matrix) -> Tables:
        """Functions of configs from what each term says of its choices, `(choices, functions)`.

        A product is known by the choices of its pair and is added to what the pair decides.
        """
        tables = dict(zip(self.groups, terms, strict=True))
        for column, product in enumerate(self._products, start=len(self._sizes)):
            told = tables.pop((column,))[product.places.ravel()]
            tables[product.pair] = tables[product.pair] + told
        return Tables(
            groups=tuple(tables),
            tables=tuple(tables.values()),
            means=levels.astype(np.float32),
            sizes=self._sizes,
            bins=self._bins,
        )

    def _affordable(self, live: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The pairs of knobs that have a term, in order: all of them, if there are not too many."""
        pairs = list(itertools.combinations(live, 2))
        cells = np.array([self._sizes[i] * self._sizes[j] for i, j in pairs], int)
        order = np.argsort(cells, kind="stable")
        kept = set(order[np.cumsum(cells[order]) <= _MOST_CELLS].tolist())
        return (pair for at, pair in enumerate(pairs) if at in kept)

    def _alike(self, configs: Configs) -> npt.NDArray[np.float64]:
        """Of each live column, the configs' covariance at variance 1, `(live, n * n)`."""
        columns = self.columns_of(configs)
        found = [self._kernels[k][np.ix_(columns[k], columns[k])].ravel() for k in self._live]
        return np.array(found).reshape(len(self._live), len(configs) ** 2)

    def _covariance(self, alike: Matrix, variances: Matrix, n: int) -> Matrix:
        """Covariance of the configs, `(n, n)`: columns and, as products of two knobs', pairs."""
        knobs, pairs = alike[: self._knobs], np.zeros((self._knobs,) * 2)
        pairs[self._places] = variances[len(alike) : -1]
        together = np.einsum("kn,kn->n", knobs, pairs @ knobs)
        covariance: Matrix = (self._level + variances[: len(alike)] @ alike + together).reshape(
            n, n
        )
        covariance[np.diag_indices(n)] += variances[-1] + _JITTER
        return covariance

    def _slopes(self, alike: Matrix, slope: Matrix) -> Matrix:
        """The sum of `slope` `(n, n)` over each group's covariance at variance 1, `(groups,)`."""
        knobs = alike[: self._knobs]
        of_pairs = (knobs * slope.ravel()) @ knobs.T
        return np.concatenate([alike @ slope.ravel(), of_pairs[self._places]])

    def _updates(self, configs: Configs, variances: Matrix, weights: Matrix) -> Iterator[Matrix]:
        """Each group's covariance with the configs, times `weights` `(n, f)`: `(choices, f)`."""
        columns = self.columns_of(configs)
        rows = {k: self._kernels[k][:, columns[k]] for k in self._live}
        for group, variance in zip(self.groups, variances, strict=False):
            if len(group) == 1:
                yield variance * (rows[group[0]] @ weights)
                continue
            one, other = (rows[knob] for knob in group)
            products = (one[None, :, :] * weights.T[:, None, :]) @ other.T
            yield variance * products.reshape(len(products), -1).T

    def _draw(
        self, group: tuple[int, ...], variance: float, draws: int, rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """A group's table under the prior, `(choices, draws)`."""
        roots = [self._roots[knob] for knob in group]
        if len(roots) == 1:
            table = roots[0] @ rng.standard_normal((roots[0].shape[1], draws))
        else:
            one, other = roots
            luck = rng.standard_normal((draws, one.shape[1], other.shape[1]))
            table = (one @ luck @ other.T).transpose(1, 2, 0).reshape(-1, draws)
        scaled: npt.NDArray[np.float32] = (table * np.sqrt(variance)).astype(np.float32)
        return scaled


def _coarse(knob: Knob) -> Knob:
    """The knob, or one with a choice for each bin."""
    if len(knob) <= _WIDEST:
        return knob
    firsts = -(-np.arange(_WIDEST) * len(knob) // _WIDEST)
    return Knob(
        name=knob.name, choices=tuple(knob.choices[i] for i in firsts), ordered=knob.ordered
    )


def _narrow(product: Product) -> Product:
    """The product, or one with a choice for each bin."""
    places = product.places * _WIDEST // len(product.knob)
    if len(product.knob) <= _WIDEST:
        return product
    return replace(product, knob=_coarse(product.knob), places=places)


def _root(kernel: Matrix) -> Matrix:
    """A matrix `(choices, rank)` whose product with its transpose is the kernel, or nearly."""
    values, vectors = np.linalg.eigh(kernel)
    kept = np.argsort(-values)[:_RANK]
    root: Matrix = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return root
