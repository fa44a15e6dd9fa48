"""What an env can set, with types, limits and defaults: the shape of the files in envs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from chameleon_ray.settings import Count, Positive, Real, Seconds, Whole
from chameleon_ray.tasks import ROUNDING, GpuTemplate

_ROUNDED = 1e-3  # relative, of a number of which ten bits are kept
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
    slower: Annotated[Real, Field(gt=1)] = 1.3

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is above most ({self.most})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """What is explored and measured: one file of envs/.

    Attributes:
        measurer: `tvm` builds and times real kernels; `simulated` asks an analytic device;
            `recorded` answers from a file, in a replay;
            `package.module:function` names another backend (`measure.backend.Backend`).
        sleep: A recorded measurement takes as long as the kernel took.
        devices: How many simulated devices there are.
        measurement_seconds: How long a measurement on a simulated device takes.
        target: `llvm` is the CPU, `cuda` an NVIDIA GPU.
        model: LLVM's name of the CPU, the GPU's architecture (`sm_90`), or `native`.
        template: Of a GPU's kernels: `direct` has the knobs of the paper's Table 1, `gemm` those of
            `templates.cuda_gemm`; `gemm_tf32` and `gemm_float16` may round what they multiply.
        cores: Cores that a kernel may use; 0 stands for all. Of no meaning for GPUs.
        cache: Whether machine code for a GPU that was compiled before, by any run, is used again:
            builds then take less time than a first search's.
        runners: Processes that build; 0 stands for one per core, divided among GPUs.
        layers_at_once: Layers under way at the same time; 0 lets the machine's size decide.
        cold_weights: On a CPU, whether each execution that is timed reads its filters from memory,
            as in a network of more filters than a cache holds; otherwise they are there already.
        tolerance: Largest max|a-b| / max|b| against torch that counts as right.
        memory_bytes: Data memory of a candidate's process; more ends the candidate.
        keep_variables: What of the environment a candidate's process has besides that which
            compilers and devices read (`measure.limits`).
        finalists: Best configs timed again at the end, interleaved with default and torch.
        final_repeats: Rounds of that interleaving.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    description: str = ""
    measurer: Annotated[str, Field(pattern=r"^(tvm|simulated|recorded|[\w.]+:\w+)$")] = "tvm"
    sleep: bool = False
    devices: Annotated[Whole, Field(ge=1, le=4096)] = 1
    measurement_seconds: Annotated[Real, Field(ge=0, le=3600)] = 0.0
    target: Literal["llvm", "cuda"] = "llvm"
    model: str = "native"
    template: GpuTemplate = "direct"
    cores: Annotated[Whole, Field(ge=0)] = 0
    cache: bool = True
    runners: Annotated[Whole, Field(ge=0)] = 0
    layers_at_once: Annotated[Whole, Field(ge=0)] = 0
    repeats: RepeatSettings = field(default_factory=RepeatSettings)
    build_timeout_seconds: Seconds = 10.0
    run_timeout_seconds: Seconds = 5.0
    start_timeout_seconds: Seconds = 120.0
    memory_bytes: Annotated[Whole, Field(ge=2**28)] = 4 * 2**30
    keep_variables: tuple[str, ...] = ()
    cold_weights: bool = True
    tolerance: Positive = 1e-4
    finalists: Count = 10
    final_repeats: Count = 10

    @property
    def simulated(self) -> bool:
        """Whether the device is a formula: it cannot crash, and nothing disturbs its times."""
        return self.measurer == "simulated"

    def __post_init__(self) -> None:
        if self.simulated and self.target == "cuda":
            raise ValueError("a simulated device is a CPU: measurer simulated takes target llvm")
        if self.template != "direct" and not self.on_gpus:
            raise ValueError(f"template {self.template} is for GPUs: it takes target cuda")
        if self.template in ROUNDING and self.tolerance < _ROUNDED:
            raise ValueError(
                f"template {self.template} rounds what it multiplies: it takes a tolerance of "
                f"{_ROUNDED:g} or more, not {self.tolerance:g}"
            )

    @property
    def on_gpus(self) -> bool:
        """Whether kernels are timed on GPUs."""
        return self.target == "cuda"

    @property
    def on_cores(self) -> bool:
        """Whether kernels are timed on the cores that everything else computes on."""
        return not self.on_gpus and not self.simulated

    @property
    def most_seconds(self) -> float:
        """Wall time of the longest command that a candidate's process gets."""
        comparing = self.run_timeout_seconds * (self.finalists + 2) * self.final_repeats
        return max(self.build_timeout_seconds, comparing)
