"""What was sampled and how it scored: one small JSON file, renewed as results come in.

A search of settings that is started again proposes the same samples again, in the same order; their
searches are found where they were kept, so that it goes on within seconds where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import write_whole
from chameleon_ray.policy_search.ranges import Settings, Value

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One sample scored with one seed on all spaces: one training iteration of Ray Tune.

    Attributes:
        sample: Number of the sample, or of the member of a population.
        number: Which of its iterations this is, from 1; all samples meet the same seeds.
        settings: What was scored; a member of a population changes them as it goes.
        scores: By space.
    """

    sample: int
    number: int
    settings: Settings
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Over the spaces."""
        return float(np.mean(list(self.scores.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Settings, and what they scored with each seed, the mean over the spaces.

    Attributes:
        sample: Number of the first sample that had them.
        settings: What the sample changes of the base policy.
        means: By number of the iteration.
    """

    sample: int
    settings: Settings
    means: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over its iterations."""
        return float(np.mean(list(self.means.values())))


@dataclass(slots=True)
class Journal:
    """The samples of one experiment of Ray Tune.

    Attributes:
        path: Where they are written.
        question: Stands for all that the samples depend on: a file of another is not gone on with.
        proposed: The settings that each sample began with, by its number.
        evaluations: What they scored, in the order in which that came in.
    """

    path: Path
    question: str
    proposed: dict[int, dict[str, Value]] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, question: str) -> Journal:
        """What was proposed before, to be proposed again; scores are looked up anew.

        Raises:
            RunFolderError: The file is of another question, or cannot be read.
        """
        try:
            found = json.loads(path.read_bytes())
            if found["version"] != _VERSION:
                raise RunFolderError(
                    f"{path}: written by another version of chameleon-ray. Choose another folder "
                    "with --out."
                )
            known = found["question"]
            proposed = {int(number): settings for number, settings in found["proposed"].items()}
        except FileNotFoundError:
            return cls(path=path, question=question)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{path}: cannot be read ({error}). Remove it: the searches stay, and the same "
                "command begins with them."
            ) from error
        if known != question:
            raise RunFolderError(
                f"{path.parent} holds samples of another search (other spaces, ranges, base "
                "policy, seeds, trials, or way of searching). Choose another folder with --out; "
                "only --samples may change in one."
            )
        return cls(path=path, question=question, proposed=proposed)

    def propose(self, number: int, settings: Settings) -> None:
        """Note that a sample is begun, so that it is begun again after a kill."""
        if number not in self.proposed:
            self.proposed[number] = dict(settings)
            self.write()

    def tell(self, evaluation: Evaluation) -> None:
        """Note what a sample scored."""
        self.evaluations.append(evaluation)
        self.write()

    def write(self) -> None:
        """Keep it.

        Raises:
            RunFolderError: It cannot be written.
        """
        found: dict[str, Any] = {
            "version": _VERSION,
            "question": self.question,
            "proposed": self.proposed,
            "evaluations": [asdict(e) for e in self.evaluations],
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(found).encode())
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be written: {error.strerror or error}. Free space, or choose "
                "another folder with --out."
            ) from error


def scored(evaluations: Iterable[Evaluation]) -> list[Scored]:
    """The distinct settings with all that they scored, in the order of their samples."""
    ordered = sorted(evaluations, key=lambda e: (e.sample, e.number))
    first: dict[str, Evaluation] = {}
    means: dict[str, dict[int, float]] = {}
    for e in ordered:
        mark = json.dumps(dict(e.settings), sort_keys=True)
        first.setdefault(mark, e)
        means.setdefault(mark, {})[e.number] = e.mean
    return [
        Scored(sample=e.sample, settings=e.settings, means=means[mark]) for mark, e in first.items()
    ]


def finalists(evaluations: Sequence[Evaluation], own: Settings | None = None) -> list[Scored]:
    """The settings that were still there at the last iteration that any reached.

    Args:
        evaluations: All of an experiment.
        own: The base policy's, which are there in any case: they are what is to be beaten.
    """
    last = max((e.number for e in evaluations), default=0)
    return [s for s in scored(evaluations) if last in s.means or s.settings == own]
