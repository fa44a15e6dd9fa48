"""Tasks, layers and targets: what is computed, how often, and for what."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args

from chameleon_ray.errors import UnsupportedError

GpuTemplate = Literal["direct", "gemm", "gemm_tf32", "gemm_float16"]
Form = Literal["direct", "winograd2", "winograd4"]
Side = Literal["", "in", "out"]
Step = Literal["bias", "add", "relu", "clip6", "silu"]
ROUNDING: frozenset[GpuTemplate] = frozenset({"gemm_tf32", "gemm_float16"})


class Task(Protocol):
    """What is tuned: a name and its work."""

    @property
    def key(self) -> str:
        """One word, the same on every machine."""

    @property
    def flop(self) -> int:
        """Floating-point operations; any positive number where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTask:
    """A kernel of which nothing is known but its name."""

    key: str
    flop: int = 10**9  # so that its fitness is executions a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """One 2-D convolution, NCHW, with as many zeros of padding on all four sides.

    Two layers of equal shape and epilogue are the same task, and are tuned once.

    Attributes:
        block: Channels that lie side by side. With 1, activations are NCHW; with 16, NCHW16c: the
            sixteenth part of the channels, and last 16 of them, on both sides of the convolution.
        nchw: The side that is NCHW all the same: where a chain of layers in blocks begins or ends.
        form: By which algorithm it is computed: by definition, or by F(2x2, 3x3) or F(4x4, 3x3).
        epilogue: What is done with each output before it is written: a bias of its filter or the
            number of another tensor is added, it is made at least 0, between 0 and 6, or x times
            its logistic function.

    Raises:
        UnsupportedError: The filter is larger than the padded input, the channels don't divide
            into the groups, or the epilogue has a step that is not known.
    """

    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride: int = 1
    padding: int = 0
    batch: int = 1
    groups: int = 1
    dtype: Literal["float32"] = "float32"
    block: int = 1
    nchw: Side = ""
    form: Form = "direct"
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < (0 if field.name == "padding" else 1):
                raise UnsupportedError(f"conv2d: {field.name} is {value}; it must be positive.")
        if self.out_height < 1 or self.out_width < 1:
            raise UnsupportedError(f"{self.key}: the filter is larger than the padded input.")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UnsupportedError(f"{self.key}: the channels do not divide into the groups.")
        if self.in_channels % self.in_block or self.out_channels % self.out_block:
            raise UnsupportedError(f"{self.key}: the channels do not divide into the blocks.")
        if unknown := set(self.epilogue) - set(get_args(Step)):
            raise UnsupportedError(f"{self.key}: no step {', '.join(sorted(unknown))} is known.")

    @property
    def in_block(self) -> int:
        """Channels of the input that lie side by side."""
        return 1 if self.nchw == "in" else self.block

    @property
    def out_block(self) -> int:
        """Channels of the output that lie side by side."""
        return 1 if self.nchw == "out" else self.block

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a filter of its own."""
        return 1 < self.groups == self.in_channels == self.out_channels

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return (self.height + 2 * self.padding - self.kernel_height) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return (self.width + 2 * self.padding - self.kernel_width) // self.stride + 1

    @property
    def flop(self) -> int:
        """Floating-point operations of the direct algorithm, a multiply-add counted as two."""
        per_output = 2 * self.in_channels // self.groups * self.kernel_height * self.kernel_width
        return self.batch * self.out_channels * self.out_height * self.out_width * per_output

    @property
    def key(self) -> str:
        """The task as one word, the same on every machine: the journal's `task` column."""
        return (
            f"conv2d_n{self.batch}_c{self.in_channels}x{self.height}x{self.width}"
            f"_k{self.out_channels}x{self.kernel_height}x{self.kernel_width}"
            f"_s{self.stride}_p{self.padding}_g{self.groups}_{self.dtype}"
            + (f"_nchw{self.block}c" if self.block > 1 else "")
            + (f"_{self.nchw}nchw" if self.nchw else "")
            + (f"_{self.form}" if self.form != "direct" else "")
            + "".join(f"_{step}" for step in self.epilogue)
        )

    @classmethod
    def from_key(cls, key: str) -> Conv2d:
        """The task that `key` names.

        Raises:
            UnsupportedError: `key` was not made by `Conv2d.key`.
        """
        match = _KEY.fullmatch(key)
        if not match:
            raise UnsupportedError(f"{key!r} is not the key of a conv2d task.")
        found: dict[str, Any] = match.groupdict()
        epilogue = tuple(step for step in found.pop("epilogue").split("_") if step)
        form: Form = found.pop("form") or "direct"
        nchw: Side = found.pop("nchw") or ""
        numbers: dict[str, Any] = {name: int(text) for name, text in found.items() if text}
        return cls(**numbers, nchw=nchw, form=form, epilogue=epilogue)


_KEY = re.compile(
    r"conv2d_n(?P<batch>\d+)_c(?P<in_channels>\d+)x(?P<height>\d+)x(?P<width>\d+)"
    r"_k(?P<out_channels>\d+)x(?P<kernel_height>\d+)x(?P<kernel_width>\d+)"
    r"_s(?P<stride>\d+)_p(?P<padding>\d+)_g(?P<groups>\d+)_float32"
    r"(_nchw(?P<block>\d+)c)?(_(?P<nchw>in|out)nchw)?(_(?P<form>winograd[24]))?(?P<epilogue>(_[a-z]+\d?)*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A task, its number within its network (from 1), and how often the network uses it."""

    index: int
    task: Conv2d
    uses: int

    @property
    def name(self) -> str:
        """A short name for tables, such as `256->512 3x3 s2 @14`."""
        t = self.task
        stride = f" s{t.stride}" if t.stride > 1 else ""
        groups = f" g{t.groups}" if t.groups > 1 else ""
        kernel = f"{t.kernel_height}x{t.kernel_width}"
        steps = "".join(f"+{step}" for step in t.epilogue if step != "bias")
        form = f" F{t.form[-1]}" if t.form != "direct" else ""
        epilogue = f" {steps}" if steps else ""
        what = f"{t.in_channels}->{t.out_channels} {kernel}{stride}{groups}"
        return f"{what} @{t.height}{form}{epilogue}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What code is generated for.

    Attributes:
        kind: `llvm` for a CPU, `cuda` for an NVIDIA GPU.
        model: LLVM's name of the CPU (`znver4`), or the GPU's architecture (`sm_90`).
        lanes: float32 lanes of one vector register.
        cores: CPU cores that a kernel may use, or a GPU's streaming multiprocessors.
        template: Of a GPU: `direct` has the knobs of Table 1, `gemm` those of `cuda_gemm`; with
            `_tf32` and `_float16`, tensor cores may round to that.
    """

    kind: Literal["llvm", "cuda"] = "llvm"
    model: str = "native"
    lanes: int = 16
    cores: int = 1
    template: GpuTemplate = "direct"

    @property
    def threads(self) -> int:
        """Threads of the CPU that a kernel keeps busy: on a GPU, the one that waits for it."""
        return self.cores if self.kind == "llvm" else 1
