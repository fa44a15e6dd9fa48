"""Everything that the paper states as a number or as an algorithm, held against the code."""

import dataclasses
import math

import numpy as np
import pytest

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.explorers import Candidates
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.presets import load_policy
from chameleon_ray.sampling.adaptive import AdaptiveSampler, synthesise
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    GreedySettings,
    Policy,
    PpoSettings,
)
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.templates.cuda_knobs import direct_space, winograd_space

# network, task index, GFLOP, configs of direct convolution, configs of Winograd if it applies:
# counted from AutoTVM's templates for the paper's 26 tasks
TASKS = [
    ("alexnet", 1, 0.199, 570_240, 89_100),
    ("alexnet", 2, 0.299, 1_013_760, 158_400),
    ("alexnet", 3, 0.224, 2_580_480, 403_200),
    ("alexnet", 4, 0.448, 22_579_200, 1_411_200),
    ("alexnet", 5, 0.141, 1_032_192, None),
    ("vgg16", 1, 0.925, 13_516_800, 132_000),
    ("vgg16", 2, 3.699, 84_480_000, 1_320_000),
    ("vgg16", 3, 1.850, 76_032_000, 1_188_000),
    ("vgg16", 4, 3.699, 228_096_000, 891_000),
    ("vgg16", 5, 1.850, 202_752_000, 792_000),
    ("vgg16", 6, 3.699, 451_584_000, 2_016_000),
    ("vgg16", 7, 1.850, 395_136_000, 1_764_000),
    ("vgg16", 8, 3.699, 708_083_712, 2_963_520),
    ("vgg16", 9, 0.173, 202_309_632, None),
    ("resnet18", 1, 0.231, 844_800, 462_000),
    ("resnet18", 2, 0.0128, 190_080, None),
    ("resnet18", 3, 0.116, 760_320, None),
    ("resnet18", 4, 0.231, 9_123_840, 89_100),
    ("resnet18", 5, 0.0128, 2_027_520, None),
    ("resnet18", 6, 0.116, 8_110_080, None),
    ("resnet18", 7, 0.231, 36_864_000, 576_000),
    ("resnet18", 8, 0.0128, 8_064_000, None),
    ("resnet18", 9, 0.116, 32_256_000, None),
    ("resnet18", 10, 0.0257, 22_579_200, None),
    ("resnet18", 11, 0.231, 90_316_800, 352_800),
    ("resnet18", 12, 0.236, 79_027_200, None),
]


def task(name, index):
    """A task by the network's name and the paper's index."""
    return network(name)[index - 1].task


def test_table_1_names_the_knobs():
    """Table 1: the knobs of direct convolution on a GPU, in the paper's order."""
    assert [knob.name for knob in direct_space(task("vgg16", 4)).knobs] == [
        *("tile_f", "tile_y", "tile_x", "tile_rc", "tile_ry", "tile_rx"),
        *("auto_unroll_max_step", "unroll_explicit"),
    ]


def test_table_4_counts_the_tasks():
    """Table 4: 5, 9 and 12 tasks, all different."""
    counts = {name: len({layer.task for layer in network(name)}) for name in NETWORKS}
    assert counts == {"alexnet": 5, "vgg16": 9, "resnet18": 12}


@pytest.mark.parametrize(
    ("layer", "name", "index", "shape"),
    [
        ("L1", "alexnet", 1, "256->256 3x3 @13"),
        ("L2", "alexnet", 4, "64->192 5x5 @27"),
        ("L3", "vgg16", 1, "512->512 3x3 @14"),
        ("L4", "vgg16", 2, "512->512 3x3 @28"),
        ("L5", "vgg16", 4, "256->256 3x3 @56"),
        ("L6", "resnet18", 6, "128->256 3x3 s2 @28"),
        ("L7", "resnet18", 9, "64->128 3x3 s2 @56"),
        ("L8", "resnet18", 11, "64->64 3x3 @56"),
    ],
)
def test_table_5_names_the_layers(layer, name, index, shape):
    """Table 5: L1 to L8 are these tasks of these networks."""
    found = network(name)[index - 1]
    assert (found.index, found.name) == (index, shape), layer


@pytest.mark.parametrize(("name", "index", "gflop", "direct", "winograd"), TASKS)
def test_the_26_tasks_have_the_known_work_and_space_sizes(name, index, gflop, direct, winograd):
    """Section 2.2: each task's operations, and the sizes of its two GPU spaces."""
    it = task(name, index)
    assert it.flop / 1e9 == pytest.approx(gflop, rel=0.005)
    assert direct_space(it).size == direct
    if winograd is not None:
        assert winograd_space(it).size == winograd
        return
    with pytest.raises(UnsupportedError, match=it.key):
        winograd_space(it)


def test_the_26_tasks_are_all_there():
    """Table 4: the list above leaves no task out."""
    assert [(name, i) for name, i, *_ in TASKS] == [
        (name, layer.index) for name in ("alexnet", "vgg16", "resnet18") for layer in network(name)
    ]


def test_table_7_is_the_default_of_chameleon():
    """Table 7: every hyper-parameter of Chameleon."""
    policy, ppo, adaptive = Policy(), PpoSettings(), AdaptiveSettings()
    assert math.ceil(policy.measurements / policy.candidates) == 16  # iteration_opt
    assert CostModelSettings().mode == "xgb-reg"  # mode_GBT
    assert policy.candidates == 64  # b_GBT
    assert (ppo.episodes, ppo.steps) == (128, 500)  # episode_rl, step_rl
    assert adaptive.threshold == 2.5  # threshold_meta
    assert (adaptive.smallest, adaptive.largest) == (8, 64)  # Algorithm 1, line 3
    assert (policy.explorer, policy.sampler) == (ppo, adaptive)


def test_table_8_is_the_default_of_autotvm():
    """Table 8: every hyper-parameter of AutoTVM."""
    policy = Policy(explorer=AnnealingSettings(), sampler=GreedySettings())
    assert policy.measurements == 1000  # Sigma(b_GBT)
    assert policy.cost_model.mode == "xgb-reg"  # mode_GBT
    assert policy.candidates == policy.sampler.batch == 64  # b_GBT
    assert (policy.explorer.chains, policy.explorer.steps) == (128, 500)  # n_sa, step_sa


def test_table_9_is_the_default_of_ppo():
    """Table 9: every hyper-parameter of the search agent."""
    ppo = PpoSettings()
    assert ppo.learning_rate == 1e-3
    assert ppo.discount == 0.9
    assert ppo.gae == 0.99
    assert ppo.epochs == 3
    assert ppo.clip == 0.3
    assert ppo.value_coefficient == 1.0
    assert ppo.entropy_coefficient == 0.1


def test_the_presets_of_the_paper_are_tables_7_8_and_9():
    """Tables 7 to 9: the shipped policies named after the paper and AutoTVM hold their numbers."""
    _, paper = load_policy("chameleon_paper")
    assert (paper.candidates, paper.measurements, paper.cost_model.mode) == (64, 1000, "xgb-reg")
    assert (paper.explorer.episodes, paper.explorer.steps) == (128, 500)
    assert (paper.sampler.kind, paper.sampler.threshold) == ("adaptive", 2.5)
    table_9 = ("learning_rate", "discount", "gae", "epochs", "clip")
    table_9 += ("value_coefficient", "entropy_coefficient")
    defaults = PpoSettings()
    assert [getattr(paper.explorer, n) for n in table_9] == [getattr(defaults, n) for n in table_9]
    _, autotvm = load_policy("autotvm")
    assert (autotvm.candidates, autotvm.sampler.batch, autotvm.measurements) == (64, 64, 1000)
    assert autotvm.cost_model.mode == "xgb-reg"
    assert (autotvm.explorer.chains, autotvm.explorer.steps) == (128, 500)


@pytest.mark.parametrize(
    "name",
    [
        "autotvm",
        "autotvm_diversity",
        "adaptive_exploration",
        "adaptive_sampling",
        "genetic",
        "chameleon_paper",
    ],
)
def test_the_columns_of_table_2_begin_with_random_configs_alone(name):
    """None of them knows a default."""
    _, policy = load_policy(name)
    assert (policy.default, policy.start, policy.neighbours) == ("apart", "random", 0)


TABLE_2 = ("autotvm", "adaptive_exploration", "adaptive_sampling", "chameleon_paper")


def test_the_columns_of_table_2_differ_in_nothing_but_explorer_and_sampler():
    """Table 2: cost model, features, first batch and budget are the same in all four columns."""
    own = {"explorer", "sampler", "description"}
    shared = [field.name for field in dataclasses.fields(Policy) if field.name not in own]
    policies = [load_policy(name)[1] for name in TABLE_2]
    columns = [{name: getattr(policy, name) for name in shared} for policy in policies]
    assert columns[1:] == columns[:-1]


def test_the_columns_of_table_2_are_two_explorers_by_two_samplers():
    """Table 2: annealing or RL, greedy or adaptive sampling, each with the same settings twice."""
    autotvm, exploration, sampling, paper = (load_policy(name)[1] for name in TABLE_2)
    assert autotvm.explorer == sampling.explorer != exploration.explorer == paper.explorer
    assert autotvm.sampler == exploration.sampler != sampling.sampler == paper.sampler


def plain_space(*sizes):
    """A space of plain numbers."""
    return DesignSpace("plain", [options(f"k{i}", range(n)) for i, n in enumerate(sizes)])


def choose(space, configs, *, visited=(), failed=(), variant="letter", **settings):
    """What adaptive sampling picks from these candidates, ranked as they stand."""
    configs = np.array(configs, dtype=np.int32)
    candidates = Candidates(
        configs=configs, scores=np.linspace(1, 0, len(configs), dtype=np.float32)
    )
    sampler = AdaptiveSampler(AdaptiveSettings(variant=variant, **settings), candidates=64)
    visited = np.array(visited, dtype=np.int32).reshape(-1, len(space.knobs))
    rng = np.random.default_rng(0)
    return sampler.choose(space, candidates, visited, np.array(failed, dtype=bool), rng).tolist()


def blocks(*corners):
    """Five candidates around each corner: the corner itself is their mean."""
    around = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    return [(x + dx, y + dy) for x, y in corners for dx, dy in around]


CORNERS = [(10, 10), (10, 50), (50, 10), (50, 50), (90, 10), (10, 90), (90, 90), (50, 90)]


def test_algorithm_1_lines_4_and_11_return_the_centroids():
    """Eight tight groups of candidates: the first k fits, and their middles are measured."""
    chosen = choose(plain_space(100, 100), blocks(*CORNERS), largest=9)
    assert [tuple(row) for row in chosen] == CORNERS


def test_algorithm_1_lines_5_and_6_stop_at_the_knee():
    """Twelve tight groups: the loss plunges until k is 12, and the next k is the last one."""
    corners = [(x, y) for x in (10, 40, 60, 90) for y in (10, 40, 60)]
    chosen = choose(plain_space(100, 100), blocks(*corners), smallest=11)
    assert len(chosen) == 13
    gradual = [(x, 0) for x in range(64)]
    assert len(choose(plain_space(100, 2), gradual)) == 9  # no plunge: the second k is the last


def test_algorithm_1_line_3_ends_before_64():
    """A threshold that no loss meets runs through range(8, 64)."""
    gradual = [(x, 0) for x in range(64)]
    assert len(choose(plain_space(100, 2), gradual, threshold=1 + 1e-9)) <= 63


def test_algorithm_1_line_9_replaces_visited_centroids_by_the_mode():
    """A centroid that was measured gives way to the candidates' most frequent choices."""
    candidates = blocks(*CORNERS)
    chosen = choose(
        plain_space(100, 100), candidates, visited=[(10, 10)], failed=[False], largest=9
    )
    # x is 10 in 9 candidates (three groups of 3); y is 10, 90 in 9 each, and 10 stands first: the
    # mode is the visited (10, 10) itself, so that a draw of both knobs takes its place
    assert tuple(chosen[0]) != (10, 10)
    assert {x for x, _ in candidates} >= {chosen[0][0]}
    assert {y for _, y in candidates} >= {chosen[0][1]}
    assert [tuple(row) for row in chosen[1:]] == CORNERS[1:]


@pytest.mark.parametrize(
    ("visited", "failed", "first"),
    [
        ([], [], (1, 2, 0)),
        ([(1, 0, 1)], [True], (0, 2, 0)),
        ([(1, 0, 1), (1, 3, 1)], [True, False], (1, 2, 0)),
        ([(1, 2, 0), (0, 2, 0)], [True, True], (3, 0, 1)),
    ],
    ids=["nothing failed", "1 failed", "1 failed once and worked once", "all but one failed"],
)
def test_sample_synthesis_takes_the_most_frequent_choice_that_is_not_invalid(
    visited, failed, first
):
    """Section 3.3: the mode of each knob, over choices that were not seen in failures only."""
    candidates = np.array([(1, 2, 0), (1, 0, 0), (0, 2, 0), (0, 2, 1), (1, 2, 1), (3, 0, 0)])
    visited = np.array(visited, dtype=np.int32).reshape(-1, 3)
    found = synthesise(
        plain_space(4, 4, 2),
        candidates.astype(np.int32),
        visited,
        np.array(failed, dtype=bool),
        taken=visited,
        n=1,
        rng=np.random.default_rng(0),
    )
    assert tuple(found[0]) == first


def test_the_authors_cluster_the_two_knobs_with_the_most_choices():
    """The authors' code: centroids in the two largest knobs, other knobs from the candidates."""
    space = plain_space(3, 100, 5, 100)
    candidates = [(2, x, 3, y) for x, y in blocks(*CORNERS)]
    chosen = choose(space, candidates, variant="authors")
    assert len(chosen) in range(8, 65, 8)
    own = [row for row in chosen if row[0] == 2 and row[2] == 3]
    assert len(own) == len(chosen)
