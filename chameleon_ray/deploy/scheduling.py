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
from chameleon_ray.tasks import Target
from chameleon_ray.templates.cpu_conv2d_schedule import TASK, apply

_SPATIAL = 0  # of an axis that no sum runs along


def scheduled(
    graph: tvm.IRModule, configs: Mapping[str, KnobValues], target: Target
) -> tvm.IRModule:
    """The graph with every function scheduled.

    Args:
        graph: As `packed_and_fused` makes it.
        configs: Of each task, by its key.
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
            apply(sch, configs[key])
        graph.update_func(name, sch.mod["main"])
    return graph


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
        with suppress(ScheduleError):
            sch.compute_inline(block)
    for block in sch.get_child_blocks(root):
        with suppress(ScheduleError):
            _spread(sch, block, target)


def _spread(sch: Any, block: Any, target: Target) -> None:
    """The first axes in parallel, then what is summed, and the last axis in vectors."""
    loops = sch.get_loops(block)
    kinds = [int(axis.iter_type) for axis in sch.get(block).iter_vars]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _SPATIAL]
    sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != _SPATIAL]
    if not spatial:
        return
    last = spatial[-1]
    extent = int(sch.get(last).extent)
    outer, inner = spatial[:-1], None
    if extent >= target.lanes:
        split, inner = sch.split(last, [None, target.lanes])
        outer.append(split)
    else:
        outer.append(last)
    sch.reorder(*outer, *sums, *([inner] if inner is not None else []))
    sch.parallel(sch.fuse(*outer))
    if inner is not None:
        sch.vectorize(inner)
    if sums:
        sch.decompose_reduction(block, sums[0])
