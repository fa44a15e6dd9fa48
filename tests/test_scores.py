"""Scores, intervals and tests of significance, on numbers that can be checked by hand."""

import io

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import wilcoxon

from chameleon_ray.score_report import markdown, print_tables, title
from chameleon_ray.scores import (
    EVERYWHERE,
    Curve,
    attempts_to,
    holm,
    over_kernels,
    over_seeds,
    points_up_to,
    score_at,
    signed_rank,
    tabulate,
)


def curve(*best, space="conv_A", policy="p", seed=0, reference=1.0):
    """A search that found these times."""
    return Curve(
        space=space,
        kernel=space.partition("_")[0],
        policy=policy,
        seed=seed,
        reference_seconds=reference,
        best_seconds=best,
    )


def rng():
    """The same resamples every time."""
    return np.random.default_rng(0)


def test_a_score_is_the_optimum_over_the_best_found():
    """Failures count as attempts, and before the first success the score is 0."""
    scores = score_at(curve(None, 4.0, 2.0, 1.0), [1, 2, 3, 4])
    assert scores.tolist() == [0.0, 0.25, 0.5, 1.0]


def test_a_search_that_ended_early_keeps_its_last_score():
    """A search that stopped by itself, or ran out of configs, is not penalised for what it left."""
    assert score_at(curve(4.0, 2.0), [2, 512]).tolist() == [0.5, 0.5]


def test_a_search_without_attempts_scores_nothing():
    """An empty search has found nothing."""
    assert score_at(curve(), [16]).tolist() == [0.0]


def test_attempts_to_the_share_count_from_one():
    """The share is reached at the attempt that finds it, exactly 95% included."""
    found = curve(None, 2.0, 1.0 / 0.95, 1.0)
    assert attempts_to(found, trials=4) == 3
    assert attempts_to(found, trials=2) is None


def test_points_end_with_the_budget():
    """The budget itself is a point, unless it is beyond the last one."""
    assert points_up_to(100) == (16, 32, 64, 100)
    assert points_up_to(128) == (16, 32, 64, 128)
    assert points_up_to(8) == (8,)
    assert points_up_to(1000)[-1] == 512


def test_holm_multiplies_the_smallest_most_and_never_reorders():
    """The textbook example, with one that is unknown."""
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_signed_rank_is_scipys_and_knows_the_edges():
    """No difference at all is no evidence; one pair is no sample."""
    differences = np.array([0.1, 0.2, -0.05, 0.3, 0.4])
    assert signed_rank(differences) == pytest.approx(wilcoxon(differences).pvalue)
    assert signed_rank(np.zeros(5)) == 1.0
    assert signed_rank(np.array([0.1])) is None


def test_the_interval_over_seeds_holds_the_mean():
    """It lies about the mean and within the values; one seed has none."""
    values = np.array([0.5, 0.6, 0.7, 0.8])
    found = over_seeds(values, rng())
    assert found.mean == pytest.approx(0.65)
    assert values.min() <= found.low < found.mean < found.high <= values.max()
    assert over_seeds(values[:1], rng()).low is None


def test_the_interval_over_kernels_resamples_whole_kernels():
    """Many spaces of one kernel are no more evidence than one: they have no interval at all."""
    means = np.array([0.2, 0.4, 0.9])
    found = over_kernels(means, ["conv", "conv", "gemm"], rng())
    assert (found.mean, found.n) == (pytest.approx(0.5), 2)
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.9))
    assert over_kernels(means, ["conv"] * 3, rng()).low is None


def test_differences_are_paired_by_seed():
    """Only seeds that both have are compared, each with its own."""
    curves = [curve(1 / (0.1 + seed / 10), policy="a", seed=seed) for seed in range(6)]
    curves += [curve(1 / (0.2 + seed / 10), policy="b", seed=seed) for seed in range(2, 8)]
    (table,) = tabulate(curves, trials=1, rng=rng())
    first, second = table.rows
    assert first.differences == ()
    score, attempts = second.differences
    assert (score.mean, score.n) == (pytest.approx(0.1), 4)
    assert attempts.mean == 0
    assert attempts.p == 1.0


def test_a_search_that_never_gets_there_counts_as_its_budget():
    """The mean of attempts takes the budget for it, and the table says how many got there."""
    (table,) = tabulate([curve(1.0, 1.0), curve(2.0, 2.0, seed=1)], trials=2, rng=rng())
    assert table.rows[0].attempts.mean == pytest.approx(1.5)
    assert table.rows[0].reached == 0.5


def test_how_good_is_good_can_be_said():
    """Half of the reference is reached at once by both; the table says what was asked."""
    both = [curve(1.0, 1.0), curve(2.0, 2.0, seed=1)]
    (table,) = tabulate(both, trials=2, rng=rng(), share=0.5)
    assert (table.share, table.rows[0].attempts.mean, table.rows[0].reached) == (0.5, 1.0, 1.0)
    assert "to 50%" in markdown(table)


def test_the_last_table_is_over_the_spaces_that_all_policies_searched():
    """A policy that searched an easy space more does not win by that."""
    curves = [curve(2.0, space=s, policy=p) for p in "ab" for s in ("conv_A", "conv_B", "gemm_A")]
    curves.append(curve(1.0, space="easy_A", policy="a"))
    tables = tabulate(curves, trials=1, rng=rng())
    assert [t.space for t in tables] == ["conv_A", "conv_B", "gemm_A", "easy_A", EVERYWHERE]
    assert (tables[-1].spaces, tables[-1].kernels) == (3, 2)
    assert {row.scores[0].mean for row in tables[-1].rows} == {0.5}
    assert [row.policy for row in tables[3].rows] == ["a"]


def test_tables_are_printed_with_what_their_numbers_mean():
    """Mean, interval, difference, p and n stand in the cell, and the legend explains them."""
    curves = [curve(2.0 + s / 10, policy="a", seed=s) for s in range(6)]
    curves += [curve(1.0 + s / 10, policy="b[x]", seed=s) for s in range(6)]
    (table,) = tabulate(curves, trials=1, rng=rng())
    stream = io.StringIO()
    print_tables([table], Console(file=stream))
    text = stream.getvalue()
    for part in ("b[x]", "n=6", "p=", "+0.", "[", "Holm", "failed ones included"):
        assert part in text
    assert title(table) == "conv_A, 6 seeds"


def test_markdown_has_a_row_for_each_policy():
    """Head, rule and rows have as many cells."""
    tables = tabulate([curve(2.0, policy=p) for p in "ab"], trials=1, rng=rng())
    lines = markdown(tables[0]).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {5}
