"""Tasks, layers and targets: what is computed, how often, and for what."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, get_args

from chameleon_ray.errors import UnsupportedError

GpuTemplate = Literal["direct", "gemm", "gemm_tf32", "gemm_float16"]
Form = Literal["direct", "winograd2", "winograd4"]
Side = Literal["", "in", "out"]
Step = Literal["bias", "add", "relu", "clip6", "silu", "gelu"]
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
            number of another tensor is added, it is made at least 0, between 0 and 6, x times its
            logistic function, or x times the share of a normal distribution below it.

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
        if self.nchw and self.block == 1:
            raise UnsupportedError(f"{self.key}: it has no blocks, so both of its sides are NCHW.")
        if self.in_channels % self.in_block or self.out_channels % self.out_block:
            raise UnsupportedError(f"{self.key}: the channels do not divide into the blocks.")
        _check_epilogue(self)

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
    def input_shape(self) -> tuple[int, ...]:
        """As torch has it, `(N, C, H, W)`."""
        return self.batch, self.in_channels, self.height, self.width

    @property
    def output_shape(self) -> tuple[int, ...]:
        """As torch has it, `(N, F, OH, OW)`."""
        return self.batch, self.out_channels, self.out_height, self.out_width

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Of the filters, as torch has them."""
        per_filter = self.in_channels // self.groups, self.kernel_height, self.kernel_width
        return self.out_channels, *per_filter

    @property
    def output(self) -> tuple[int, ...]:
        """Channels, rows and columns of what comes out."""
        return self.output_shape[1:]

    @property
    def flop(self) -> int:
        """Floating-point operations of the direct algorithm, a multiply-add counted as two."""
        per_output = 2 * self.in_channels // self.groups * self.kernel_height * self.kernel_width
        return self.batch * self.out_channels * self.out_height * self.out_width * per_output

    @property
    def name(self) -> str:
        """A short name for tables, such as `256->512 3x3 s2 @14`."""
        stride = f" s{self.stride}" if self.stride > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        kernel = f"{self.kernel_height}x{self.kernel_width}"
        form = f" F{self.form[-1]}" if self.form != "direct" else ""
        what = f"{self.in_channels}->{self.out_channels} {kernel}{stride}{groups}"
        return f"{what} @{self.height}{form}{_shown(self.epilogue)}"

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
        found, epilogue = _parts(_CONV2D, key, kind="conv2d")
        form: Form = found.pop("form") or "direct"
        nchw: Side = found.pop("nchw") or ""
        numbers: dict[str, Any] = {name: int(text) for name, text in found.items() if text}
        return cls(**numbers, nchw=nchw, form=form, epilogue=epilogue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """A product of matrices, `(rows, inner)` times `(inner, columns)`, once for each of a batch.

    Dense layers are such, and what attention computes of queries, keys and values.

    Attributes:
        constant: Whether the right side is the same each time, and for all of a batch: weights.
        epilogue: As of a convolution; a bias has a number for each column.

    Raises:
        UnsupportedError: A size is not positive, or the epilogue has a step that is not known.
    """

    in_block: ClassVar[int] = 1  # nothing of it lies in blocks
    out_block: ClassVar[int] = 1

    rows: int
    columns: int
    inner: int
    batch: int = 1
    constant: bool = True
    dtype: Literal["float32"] = "float32"
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.inner, self.batch) < 1:
            raise UnsupportedError(f"{self.key}: its sizes must be positive.")
        _check_epilogue(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the left side, `(batch, rows, inner)`."""
        return self.batch, self.rows, self.inner

    @property
    def output_shape(self) -> tuple[int, ...]:
        """`(batch, rows, columns)`."""
        return self.batch, self.rows, self.columns

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Of the right side, before it is packed."""
        sizes = self.inner, self.columns
        return sizes if self.constant else (self.batch, *sizes)

    @property
    def output(self) -> tuple[int, ...]:
        """Products, if they are several, rows and columns of what comes out."""
        return self.output_shape if self.batch > 1 else self.output_shape[1:]

    @property
    def flop(self) -> int:
        """Floating-point operations, a multiply-add counted as two."""
        return 2 * self.batch * self.rows * self.columns * self.inner

    @property
    def name(self) -> str:
        """A short name for tables, such as `matmul 197x768x3072 +gelu`: rows, inner, columns."""
        times = f"{self.batch} x " if self.batch > 1 else ""
        sizes = f"{self.rows}x{self.inner}x{self.columns}"
        return f"matmul {times}{sizes}{_shown(self.epilogue)}"

    @property
    def key(self) -> str:
        """The task as one word, the same on every machine: the journal's `task` column."""
        return (
            f"matmul_b{self.batch}_m{self.rows}_k{self.inner}_n{self.columns}_{self.dtype}"
            + ("" if self.constant else "_both")
            + "".join(f"_{step}" for step in self.epilogue)
        )

    @classmethod
    def from_key(cls, key: str) -> Matmul:
        """The task that `key` names.

        Raises:
            UnsupportedError: `key` was not made by `Matmul.key`.
        """
        found, epilogue = _parts(_MATMUL, key, kind="matmul")
        constant = not found.pop("both")
        numbers: dict[str, Any] = {name: int(text) for name, text in found.items()}
        return cls(**numbers, constant=constant, epilogue=epilogue)


LayerTask = Conv2d | Matmul


def task_from_key(key: str) -> LayerTask:
    """The task that a key names, whatever its kind.

    Raises:
        UnsupportedError: It names none.
    """
    return Matmul.from_key(key) if key.startswith("matmul") else Conv2d.from_key(key)


def _check_epilogue(task: LayerTask) -> None:
    if unknown := set(task.epilogue) - set(get_args(Step)):
        raise UnsupportedError(f"{task.key}: no step {', '.join(sorted(unknown))} is known.")


def _parts(
    pattern: re.Pattern[str], key: str, *, kind: str
) -> tuple[dict[str, Any], tuple[Step, ...]]:
    """What a key says, and its epilogue, of which the task refuses what is not known."""
    match = pattern.fullmatch(key)
    if not match:
        raise UnsupportedError(f"{key!r} is not the key of a {kind} task.")
    found: dict[str, Any] = match.groupdict()
    steps: list[Any] = [step for step in found.pop("epilogue").split("_") if step]
    return found, tuple(steps)


def _shown(epilogue: tuple[Step, ...]) -> str:
    """As the end of a name; nobody asks for a bias."""
    steps = "".join(f"+{step}" for step in epilogue if step != "bias")
    return f" {steps}" if steps else ""


_EPILOGUE = r"(?P<epilogue>(_[a-z]+\d?)*)"
_CONV2D = re.compile(
    r"conv2d_n(?P<batch>\d+)_c(?P<in_channels>\d+)x(?P<height>\d+)x(?P<width>\d+)"
    r"_k(?P<out_channels>\d+)x(?P<kernel_height>\d+)x(?P<kernel_width>\d+)"
    r"_s(?P<stride>\d+)_p(?P<padding>\d+)_g(?P<groups>\d+)_float32"
    r"(_nchw(?P<block>\d+)c)?(_(?P<nchw>in|out)nchw)?(_(?P<form>winograd[24]))?" + _EPILOGUE
)
_MATMUL = re.compile(
    r"matmul_b(?P<batch>\d+)_m(?P<rows>\d+)_k(?P<inner>\d+)_n(?P<columns>\d+)_float32"
    r"(_(?P<both>both))?" + _EPILOGUE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A task, its number within its network (from 1), and how often the network uses it."""

    index: int
    task: LayerTask
    uses: int

    @property
    def name(self) -> str:
        """A short name for tables."""
        return self.task.name


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
