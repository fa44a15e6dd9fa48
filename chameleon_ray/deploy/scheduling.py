"""How each function of a fused graph is computed: by its task's config, or by rule. Imports TVM."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import LayerTask, Target, task_from_key
from chameleon_ray.templates import default_config, design_space
from chameleon_ray.templates.activations import TASK
from chameleon_ray.templates.cpu_layers import apply

_SPATIAL = 0  # of an axis that no sum runs along
_IMAGE = 2  # axes
_WINDOW = 8  # rows of filters and the like that are unrolled
_BESIDE = 8  # vectors that are summed up side by side


def scheduled(
    graph: tvm.IRModule, configs: Mapping[str, KnobValues], target: Target
) -> tvm.IRModule:
    """The graph with every function scheduled.

    Args:
        graph: As `packed_and_fused` makes it.
        configs: Of tasks, by their key; others have the default of their template.
        target: What for.
    """
    for name, function in list(graph.functions.items()):
        if not isinstance(function, tirx.PrimFunc):
            continue
        sch = Schedule(tvm.IRModule({"main": function}))
        key = _task_of(sch)
        if key is None:
            _by_rule(sch, target)
        else:
            task = task_from_key(key)
            apply(sch, task, configs.get(key) or _default(task, target))
        graph.update_func(name, sch.mod["main"])
    return graph


def _default(task: LayerTask, target: Target) -> KnobValues:
    return design_space(task, target).describe(default_config(task, target))


def _task_of(sch: Any) -> str | None:
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        key = sch.get(block).annotations.get(TASK)
        if key is not None:
            return str(key)
    return None


def _by_rule(sch: Any, target: Target) -> None:
    """Inline what can be; of each block that is left, spread the work over cores and lanes."""
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root):
        if not _pads(sch, block):
            with suppress(ScheduleError):
                sch.compute_inline(block)
    for block in sch.get_child_blocks(root):
        if not (_pads(sch, block) and sch.get_consumers(block)):
            with suppress(ScheduleError):
                _spread(sch, block, target)


def _pads(sch: Any, block: Any) -> bool:
    """Whether it puts zeros around something: inlined, every number would be asked where it is."""
    return "pad" in sch.get(block).name_hint


def _spread(sch: Any, block: Any, target: Target) -> None:
    """The first axes in parallel, then what is summed, and the last axis in vectors.

    What is padded for it is padded for each chunk, so that it is still in a cache.
    """
    loops = sch.get_loops(block)
    kinds = [int(axis.iter_type) for axis in sch.get(block).iter_vars]
    outer = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _SPATIAL]
    sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != _SPATIAL]
    if not outer:
        return
    padded = [one for one in sch.get_producers(block) if _pads(sch, one)]
    inner = outer.pop()
    extent = int(sch.get(inner).extent)
    width, beside = _width(extent, target.lanes), []
    if sums and extent >= _BESIDE * width:  # long rows are read, and sums wait for one another less
        split, *beside, inner = sch.split(inner, [None, _BESIDE, width])
        outer.append(split)
    elif width < extent:
        split, inner = sch.split(inner, [None, width])
        outer.append(split)
    sch.reorder(*outer, *sums, *beside, inner)
    at_once = outer[:-2] if padded and len(outer) > _IMAGE else outer
    if at_once:
        chunk = sch.fuse(*at_once)
        sch.parallel(chunk)
        for pad in padded:
            sch.compute_at(pad, chunk)
            last = sch.get_loops(pad)[-1]
            if int(sch.get(last).extent) == target.lanes:  # a block of channels
                sch.vectorize(last)
    sch.vectorize(inner)
    if sums:
        sch.decompose_reduction(block, sums[0])
    for loop in (*sums, *beside):
        if int(sch.get(loop).extent) <= _WINDOW:
            sch.unroll(loop)


def _width(extent: int, lanes: int) -> int:
    """Of vectors along an axis: the whole of it if it is short, else what divides it, if it can."""
    if extent <= lanes:
        return extent
    fitting = [n for n in range(lanes, lanes // 4 - 1, -4) if extent % n == 0]
    return fitting[0] if fitting else lanes
