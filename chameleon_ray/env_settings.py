"""What an env can set, with types, limits and defaults: the shape of the files in envs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from chameleon_ray.settings import Count, Positive, Seconds

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatSettings:
    """How long a kernel is timed.

    Attributes:
        seconds: One repeat runs the kernel as often as fits, at least once.
        least: Repeats before the interval is looked at.
        most: Repeats after which it is enough.
        interval: Stop when the 95% interval of the mean is at most this share of it, each side.
        slower: Stop when even the fastest repeat, and the call before them, is this many times
            slower than the task's best.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    seconds: Seconds = 0.003
    least: Count = 3
    most: Count = 10
    interval: Positive = 0.02
    slower: Annotated[float, Field(gt=1)] = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """What is explored and measured: one file of envs/.

    Attributes:
        measurer: `tvm` builds and times real kernels; `simulated` asks an analytic device;
            `recorded` answers from a file, in a replay;
            `package.module:function` names another backend (`measure.backend.Backend`).
        sleep: A recorded measurement takes as long as the kernel took.
        target: `llvm` is the CPU.
        model: LLVM's name of the CPU, or `native`.
        cores: Cores that a kernel may use; 0 stands for all.
        runners: Processes that build and run; 0 stands for one per core.
        layers_at_once: Layers under way at the same time; 0 lets the machine's size decide.
        tolerance: Largest max|a-b| / max|b| against torch that counts as right.
        memory_bytes: Data memory of a candidate's process; more ends the candidate.
        finalists: Best configs timed again at the end, interleaved with default and torch.
        final_repeats: Rounds of that interleaving.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    description: str = ""
    measurer: Annotated[str, Field(pattern=r"^(tvm|simulated|recorded|[\w.]+:\w+)$")] = "tvm"
    sleep: bool = False
    target: Literal["llvm"] = "llvm"
    model: str = "native"
    cores: Annotated[int, Field(ge=0)] = 0
    runners: Annotated[int, Field(ge=0)] = 0
    layers_at_once: Annotated[int, Field(ge=0)] = 0
    repeats: RepeatSettings = field(default_factory=RepeatSettings)
    build_timeout_seconds: Seconds = 10.0
    run_timeout_seconds: Seconds = 5.0
    start_timeout_seconds: Seconds = 120.0
    memory_bytes: Annotated[int, Field(ge=2**28)] = 4 * 2**30
    tolerance: Positive = 1e-4
    finalists: Count = 10
    final_repeats: Count = 10
