"""A model as a graph of operators (TVM's Relax), whatever it came as. Imports torch and TVM."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import tvm
from tvm import relax

from chameleon_ray.errors import ChameleonError, MachineError, SettingsError, UnsupportedError
from chameleon_ray.networks import pt2
from chameleon_ray.networks.layout import in_blocks
from chameleon_ray.networks.simplify import simplified, with_plain_norms
from chameleon_ray.networks.source import Input, Source
from chameleon_ray.plugins import load as load_named
from chameleon_ray.tasks import Target

_OPS_OF_TORCHVISION = ("nms", "qnms")
_AVERAGES = ("running_mean", "running_var")  # of norms
_LITTLE = 0.1  # by which biases and norms of random weights differ from none


def load_graph(source: Source, target: Target) -> tvm.IRModule:
    """The graph of a model: its function `main` takes what the model takes; weights are constants.

    Norms that follow a convolution are folded into it, and so is what depends on constants alone.
    For a CPU, channels are in blocks where that serves (`layout`).

    Raises:
        SettingsError: It cannot be found, or is damaged.
        UnsupportedError: It cannot be exported, or has operators that TVM does not know.
        MachineError: The package that it takes is not installed.
    """
    if source.kind == "onnx":
        graph = _for_target(_of_onnx(source), source, target)
    else:
        graph = graph_of(exported(source), source, target)
    if source.inputs and source.inputs != inputs_of(graph):
        raise SettingsError(
            f"--input {source.written_inputs}: {source.name} takes "
            f"{','.join(map(str, inputs_of(graph)))}."
        )
    return graph


def graph_of(
    program: torch.export.ExportedProgram,
    source: Source,
    target: Target,
    *,
    one_output: bool = True,
) -> tvm.IRModule:
    """The graph of what torch has exported, as `load_graph`.

    Args:
        program: From torch.
        source: For messages.
        target: What for.
        one_output: Whether a single output comes as it is, and not in a tuple.
    """
    return _for_target(_of_program(program, source, one_output=one_output), source, target)


def torch_module(source: Source) -> torch.nn.Module:
    """The module itself, to be run beside ours.

    Raises:
        SettingsError: There is none of that name.
        UnsupportedError: It is a file, or the function returns something else.
        MachineError: torchvision is not installed.
    """
    if source.kind == "torchvision":
        return _of_torchvision(source.stem)
    if source.kind == "pt2":
        module: torch.nn.Module = exported(source).module()
        return module
    if source.kind == "onnx":
        raise UnsupportedError(f"{source.name}: an ONNX file has no torch module.")
    found = load_named(source.name, what="network")
    found = found() if callable(found) and not isinstance(found, torch.nn.Module) else found
    if not isinstance(found, torch.nn.Module):
        raise UnsupportedError(
            f"{source.name}: it returns a {type(found).__name__}, and a torch.nn.Module is needed."
        )
    return found.eval()


@contextlib.contextmanager
def onnx_file(source: Source) -> Iterator[Path]:
    """The model as a file of ONNX: its own, or one that is made for the time being."""
    if source.kind == "onnx":
        yield Path(source.name)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(exported(source), (), file, dynamo=True, verbose=False)
        yield file


def exported(source: Source) -> torch.export.ExportedProgram:
    """What torch makes of a module for these inputs, or what a file holds.

    Raises:
        SettingsError: It cannot be found, or is damaged.
        UnsupportedError: It cannot be exported; the message has torch's first line.
    """
    if source.kind == "pt2":
        return pt2.load(source.name, trust=source.trust)
    module = torch_module(source)
    examples = tuple(map(example, source.inputs))
    try:
        with torch.inference_mode():
            return torch.export.export(module, examples)
    except Exception as error:  # whatever a model's own code may raise
        raise UnsupportedError(
            f"{source.name} with --input {source.written_inputs}: torch.export cannot take it: "
            f"{_first_line(error)} Often a branch on values or a shape that does not fit; "
            "https://docs.pytorch.org/docs/stable/export.html tells how others got past it."
        ) from error


def example(of: Input) -> torch.Tensor:
    """Some input of a shape and type: numbers around zero, indices of zero."""
    dtype = getattr(torch, of.dtype)
    if dtype.is_floating_point:
        return torch.randn(of.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return torch.zeros(of.shape, dtype=dtype)


def inputs_of(graph: tvm.IRModule) -> tuple[Input, ...]:
    """What a graph takes; what is not used by it, is not among it."""
    return tuple(
        Input(shape=tuple(map(int, parameter.ty.shape)), dtype=str(parameter.ty.dtype))
        for parameter in graph["main"].params
    )


def _of_torchvision(name: str) -> torch.nn.Module:
    models = _torchvision().models
    if name not in models.list_models():
        raise SettingsError(
            f"torchvision has no model {name!r}; it has {', '.join(models.list_models())}."
        )
    module: torch.nn.Module = models.get_model(name, weights=None).eval()
    _draw_weights(module)
    return module


def _draw_weights(module: torch.nn.Module) -> None:
    """Random weights, the same each time, with which no layer is without effect on the outputs.

    With those that torchvision begins to train with, some are: there are heads of zeros, norms and
    scales that do nothing, and activations that vanish before the end.
    """
    drawn = torch.Generator().manual_seed(0)
    averages = [(n, x) for n, x in module.named_buffers() if n.endswith(_AVERAGES)]
    with torch.no_grad():
        for name, number in (*module.named_parameters(), *averages):
            summed = number[0].numel() if number.dim() > 1 else 1
            if name.endswith(("bias", "running_mean")):
                number.normal_(0, _LITTLE, generator=drawn)
            elif summed > 1:
                number.normal_(0, math.sqrt(2 / summed), generator=drawn)
            else:  # of a norm
                number.uniform_(1 - _LITTLE, 1 + _LITTLE, generator=drawn)


def _torchvision() -> Any:
    """torchvision, also where its operators were built for another torch: its models need none."""
    try:
        import torchvision
    except ImportError as error:
        raise MachineError(
            f"torchvision cannot be imported ({error}): pip install torchvision."
        ) from error
    except RuntimeError:  # it declares kernels of operators that it has not brought
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in _OPS_OF_TORCHVISION:
            library.define(  # type: ignore[no-untyped-call]
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision

        torchvision.kept = library  # for as long as it is there
    return torchvision


def _of_program(
    program: torch.export.ExportedProgram, source: Source, *, one_output: bool
) -> tvm.IRModule:
    from tvm.relax.frontend.torch import from_exported_program

    with _importing(source):
        _divide_by_floats(program)
        return from_exported_program(
            program, keep_params_as_input=False, unwrap_unit_return_tuple=one_output
        )


def _divide_by_floats(program: torch.export.ExportedProgram) -> None:
    """Where floats are divided by a whole number and rounded, TVM takes a float alone."""
    aten = torch.ops.aten
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.target not in (aten.div.Tensor_mode, aten.div.Scalar_mode):
            continue
        number = node.args[1]
        if value.is_floating_point() and isinstance(number, int):
            node.args = (node.args[0], float(number), *node.args[2:])


def _of_onnx(source: Source) -> tvm.IRModule:
    try:
        import onnx
    except ImportError as error:
        raise MachineError("ONNX files take the package onnx: pip install onnx.") from error
    from tvm.relax.frontend.onnx import from_onnx

    try:
        model = onnx.load(source.name)
        _check_opset(source, model)
        onnx.checker.check_model(model)
    except ChameleonError:
        raise
    except Exception as error:  # damaged, or weights beside it that are missing
        raise SettingsError(
            f"{source.name}: not a whole ONNX model: {_first_line(error)}"
        ) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in weights]
    shapes = None
    if source.inputs:
        if len(names) != len(source.inputs):
            raise SettingsError(f"--input: {source.name} takes {len(names)}: {', '.join(names)}.")
        shapes = {name: list(i.shape) for name, i in zip(names, source.inputs, strict=True)}
    else:
        _check_static(source, model, names)
    with _importing(source):
        return from_onnx(model, shape_dict=shapes, keep_params_in_input=False)


def _check_opset(source: Source, model: Any) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    opset = max((one.version for one in model.opset_import if not one.domain), default=0)
    if opset > newest:
        raise UnsupportedError(
            f"{source.name}: its opset is {opset}, and onnx {onnx.__version__} knows them up to "
            f"{newest}: update onnx, or export it with opset_version={newest} or less."
        )


def _check_static(source: Source, model: Any, names: list[str]) -> None:
    for value in model.graph.input:
        sizes = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name in names and not all(isinstance(size, int) and size for size in sizes):
            raise SettingsError(
                f"{source.name}: input {value.name!r} is {'x'.join(map(str, sizes))}, and code is "
                "made for one size: name it with --input, such as --input 1x3x224x224."
            )


@contextlib.contextmanager
def _importing(source: Source) -> Iterator[None]:
    try:
        yield
    except ChameleonError:
        raise
    except Exception as error:  # TVM raises several kinds
        raise UnsupportedError(
            f"{source.name}: TVM {tvm.__version__} cannot take it: {_first_line(error)}"
        ) from error


def _for_target(graph: tvm.IRModule, source: Source, target: Target) -> tvm.IRModule:
    """With norms in the convolutions before them, and nothing left that constants decide."""
    passes = (
        relax.transform.FoldBatchnormToConv2D(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
    )
    with _importing(source):
        folded = simplified(tvm.transform.Sequential(passes)(with_plain_norms(graph)))
        return in_blocks(folded, target.lanes) if target.kind == "llvm" else folded


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
