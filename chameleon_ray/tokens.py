"""What an agent for any space sees: a token for each knob, the same numbers whatever the knob."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chameleon_ray.environment import STAY, Actions, Moves
from chameleon_ray.space import Configs, Knob, Vector

Tokens = npt.NDArray[np.float32]

FEATURES = (
    "present",  # 1; 0 in a batch's padding
    "jumps",  # a knob without order, which lands anywhere
    "log2 choices",
    "one over knobs",
    "position",  # of the choice among the choices, -1 to 1
    "first",  # whether it is the first choice
    "last",
    "log2 outermost",  # of the value; of a split, its outermost and its innermost factor
    "log2 innermost",
    "best below",  # the share of the best measured configs that have a choice below this one
    "best here",
    "best above",
    "moved",  # by the last proposal: -1 to 1, as a share of the choices
    "refused",  # what the last proposal wanted of it and did not get
    "credit",  # what the score did with the last proposal, signed by this knob's move
    "up",  # what it did lately when this knob went up, fading
    "down",
    "score",  # the rest is the walk's, the same in all its tokens
    "change",  # of the score by the last proposal
    "stagnation",
    "steps left",
)
_MINE = FEATURES.index("moved")  # from here on tokens change though a walker stands still
_SHARED = FEATURES.index("score")
_FADING = 0.9
_FLOOR = 0.03  # added to scores before their logarithm: 0.01 and 0 are equally bad
_STEEP = 4.0  # a quarter of a nepit of score counts as a large change
_PATIENCE = 16.0  # steps after which a walk has stagnated


class Walkers:
    """Where some walks stand, what their last proposals did, and what their agent sees of that.

    A walk stays where it is unless a proposal scores at least as well.

    Args:
        moves: Of the space that is walked.
        configs: Where the walks start, int32 `(n, knobs)`.
        scores: Predicted fitness there, float32 `(n,)`.
        steps: That each walk will take.
        best: The best measured configs `(m, knobs)`.
    """

    def __init__(
        self, moves: Moves, configs: Configs, scores: Vector, *, steps: int, best: Configs
    ) -> None:
        self._steps, self._taken = steps, 0
        self._sizes = np.maximum(moves.space.sizes - 1, 1).astype(np.float32)
        self._offsets, self._table = _known(moves, best)
        self.configs, self.scores = configs, scores
        self._stagnant = np.zeros(len(configs), dtype=np.float32)
        shape = (*configs.shape, len(FEATURES))
        self._tokens = np.zeros(shape, dtype=np.float32)
        self._look()

    @property
    def tokens(self) -> Tokens:
        """What the agent sees now, float32 `(n, knobs, features)`; the next step writes over it."""
        return self._tokens

    def advance(self, actions: Actions, configs: Configs, scores: Vector) -> None:
        """Take note of what was proposed, and go there where it is not worse.

        Args:
            actions: What was wanted of each knob, 0 to 2, `(n, knobs)`.
            configs: What came of it, `(n, knobs)`.
            scores: Predicted fitness there, `(n,)`.
        """
        moved = configs - self.configs
        change = np.tanh(_STEEP * (_log(scores) - _log(self.scores)))[:, None]
        token = self._tokens
        token[:, :, _MINE] = moved / self._sizes
        token[:, :, _MINE + 1] = (actions - STAY) * (moved == 0)
        token[:, :, _MINE + 2] = np.sign(moved) * change
        for place, went in ((3, moved > 0), (4, moved < 0)):
            before = token[:, :, _MINE + place]
            token[:, :, _MINE + place] = np.where(went, (before + change) / 2, before * _FADING)
        token[:, :, _SHARED + 1] = change
        better, fine = scores > self.scores, scores >= self.scores
        self._stagnant = np.where(better, 0, self._stagnant + 1)
        self.configs = np.where(fine[:, None], configs, self.configs)
        self.scores = np.maximum(scores, self.scores)
        self._taken += 1
        self._look()

    def _look(self) -> None:
        """Write down what can be seen from where the walks stand."""
        token = self._tokens
        token[:, :, :_MINE] = self._table[self._offsets + self.configs]
        token[:, :, _SHARED] = np.clip(_log(self.scores), -3, 3)[:, None] / 2
        token[:, :, _SHARED + 2] = np.minimum(self._stagnant / _PATIENCE, 1)[:, None]
        token[:, :, _SHARED + 3] = 1 - self._taken / self._steps


def _known(moves: Moves, best: Configs) -> tuple[npt.NDArray[np.int64], Tokens]:
    """Where each knob's choices begin in a table of what is known of a choice, and the table."""
    space = moves.space
    rows = [
        _of_knob(knob, best[:, place], len(space.knobs)) for place, knob in enumerate(space.knobs)
    ]
    table = np.concatenate(rows)
    offsets = np.concatenate([[0], np.cumsum(space.sizes)[:-1]]).astype(np.int64)
    table[:, 1] = np.repeat(moves.jumping, space.sizes)
    return offsets, table


def _of_knob(knob: Knob, best: Configs, knobs: int) -> Tokens:
    """The features of each choice of a knob, float32 `(choices, features)`."""
    n = len(knob)
    table = np.zeros((n, _MINE), dtype=np.float32)
    table[:, 0] = 1
    table[:, 2] = np.log2(n) / 8
    table[:, 3] = 4 / knobs
    table[:, 4] = np.linspace(-1, 1, n) if n > 1 else 0
    table[0, 5], table[-1, 6] = 1, 1
    table[:, 7] = np.log2([1 + choice[0] for choice in knob.choices])
    table[:, 8] = np.log2([1 + choice[-1] for choice in knob.choices])
    table[:, 7:9] = np.minimum(table[:, 7:9] / 8, 2)
    if len(best):
        here = np.bincount(best, minlength=n) / len(best)
        table[:, 9] = np.cumsum(here) - here
        table[:, 10] = here
        table[:, 11] = 1 - np.cumsum(here)
    return table


def _log(scores: Vector) -> Vector:
    found: Vector = np.log(np.maximum(scores, 0) + np.float32(_FLOOR))
    return found
