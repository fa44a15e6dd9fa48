"""Do the static constraints of the CUDA templates say what the compiler says? Needs no GPU.

    python benchmarks/gpu_static.py [--template direct] [--configurations 200] [--arch sm_90]
                                    [--seed 0] [--json]

Random configurations of the paper's 26 tasks are compiled by NVRTC: of template `direct` valid or
not, of the others, whose code stands for valid ones only, valid ones. What a GPU would refuse of a
cubin (threads, registers x threads, shared bytes, local memory) is held against what the
constraints say of the knobs; what does not compile is refused, too. Whether the accumulators are in
registers, which no GPU asks for, is held against the cubin's local memory. Of template `direct`,
ten times as many are held against TVM's own `verify_gpu_code`, which looks at the lowered code.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np

from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.cubin import resources
from chameleon_ray.measure.cuda import generator
from chameleon_ray.measure.cuda_kernel import KERNEL
from chameleon_ray.measure.nvrtc import CompileError, compile_cubin
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.space import DesignSpace, KnobValues
from chameleon_ray.tasks import Conv2d, GpuTemplate, Target
from chameleon_ray.templates import design_space, schedule
from chameleon_ray.templates.cuda_conv2d import GRID_FITS
from chameleon_ray.templates.cuda_knobs import direct_space
from chameleon_ray.templates.cuda_tiling import accumulators
from chameleon_ray.templates.gpu import (
    BLOCK_DEPTH,
    BLOCK_THREADS,
    IN_REGISTERS,
    SM_REGISTERS,
    STATIC_SHARED_BYTES,
)

_LOCAL_BYTES = 512 * 1024  # of a thread
TASKS = [layer.task for name in NETWORKS for layer in network(name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One configuration.

    Attributes:
        task: What it computes.
        config: Its knob values.
        allowed: By the constraints that stand for what a GPU takes.
        taken: By a GPU, as its cubin says; False if there is none.
        compiled: Whether there is a cubin.
        kept: Whether the constraints say that the accumulators are in registers.
        found: Whether the cubin has them there.
        message: What the compiler said.
    """

    task: Conv2d
    config: KnobValues
    allowed: bool
    taken: bool
    compiled: bool
    kept: bool
    found: bool
    message: str = ""


def drawn(configurations: int, target: Target, seed: int) -> Iterator[Judged]:
    """Random configurations of random tasks, compiled on all cores."""
    rng = np.random.default_rng(seed)
    tasks = [TASKS[index] for index in rng.integers(len(TASKS), size=configurations)]
    configs = [_drawn_from(task, target).random(1, rng)[0].tolist() for task in tasks]
    with ProcessPoolExecutor(usable_cores()) as pool:
        yield from pool.map(partial(judged, target=target), tasks, configs)


def _drawn_from(task: Conv2d, target: Target) -> DesignSpace:
    """Without constraints, where invalid ones have code, too."""
    return direct_space(task) if target.template == "direct" else design_space(task, target)


def judged(task: Conv2d, row: list[int], *, target: Target) -> Judged:
    """A configuration `(knobs,)`, by its knobs and by its cubin."""
    space, configs = design_space(task, target), np.array([row], dtype=np.int32)
    values = space.values(configs)
    holds = {c.name: bool(c.holds(values)[0]) for c in space.constraints}
    kept = holds.pop(IN_REGISTERS)
    config = space.describe(configs[0])
    source = generator(target)[0](task, target, config)
    spills = 4 * int(accumulators(values)[0]) if target.template == "direct" else 1  # bytes
    x, y, z = source.block
    common = {"task": task, "config": config, "allowed": all(holds.values()), "kept": kept}
    try:
        found = resources(compile_cubin(source.text, target.model), KERNEL)
    except CompileError as error:
        return Judged(**common, taken=False, compiled=False, found=False, message=str(error))
    return Judged(
        **common,
        taken=x * y * z <= BLOCK_THREADS
        and z <= BLOCK_DEPTH
        and found.registers * x * y * z <= SM_REGISTERS
        and found.shared_bytes <= STATIC_SHARED_BYTES
        and found.stack_bytes <= _LOCAL_BYTES,
        compiled=True,
        found=found.stack_bytes < spills,
    )


def verified(configurations: int, target: Target, seed: int) -> float:
    """In how many of random configurations of `direct` TVM's verdict is that of the constraints."""
    import tvm
    from tvm.s_tir import transform
    from tvm.s_tir.analysis import verify_gpu_code

    lower = tvm.transform.Sequential(
        [
            transform.LowerInitBlock(),
            transform.PlanAndUpdateBufferAllocationLocation(),
            transform.ConvertBlocksToOpaque(),
            transform.CompactBufferAllocation(),
            transform.UnifyThreadBinding(),
            transform.LowerMatchBuffer(),
            transform.LowerOpaqueBlock(),
            tvm.tirx.transform.FlattenBuffer(),
        ]
    )
    limits = {
        "max_shared_memory_per_block": STATIC_SHARED_BYTES,
        "max_threads_per_block": BLOCK_THREADS,
        "max_thread_z": BLOCK_DEPTH,
    }
    rng, agree = np.random.default_rng(seed), 0
    for index in rng.integers(len(TASKS), size=configurations):
        space, row = design_space(TASKS[index], target), direct_space(TASKS[index]).random(1, rng)
        values = space.values(row)
        names = {c.name for c in space.constraints if not c.holds(values)[0]}
        module = schedule(TASKS[index], target, space.describe(row[0]))
        (function,) = lower(module).functions.values()
        allowed = not names - {IN_REGISTERS, GRID_FITS}  # it looks at neither
        agree += bool(verify_gpu_code(function, limits)) == allowed
    return agree / configurations


def checks_per_second(target: Target, checks: int = 1_000_000) -> float:
    """How many configurations of the largest space are checked in a second."""
    space = max((design_space(task, target) for task in TASKS), key=lambda space: space.size)
    rng = np.random.default_rng(0)
    configs = rng.integers(0, space.sizes, size=(checks, len(space.knobs))).astype(np.int32)
    start = time.perf_counter()
    space.valid(configs)
    return checks / (time.perf_counter() - start)


def main() -> None:
    """Compile, and print how far both agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--template", default="direct", choices=get_args(GpuTemplate))
    parser.add_argument("--configurations", type=int, default=200)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    target = Target(kind="cuda", model=options.arch, lanes=32, template=options.template)
    all_judged = list(drawn(options.configurations, target, options.seed))
    allowed = [one for one in all_judged if one.allowed]
    in_registers = [one for one in allowed if one.compiled]
    figures = {
        "configurations": len(all_judged),
        "valid": len(allowed),
        "compiled": sum(one.compiled for one in allowed),
        "agreement": sum(one.allowed == one.taken for one in all_judged) / len(all_judged),
        "agreement_on_registers": sum(one.kept == one.found for one in in_registers)
        / len(in_registers),
        "checks_per_second": checks_per_second(target),
    }
    if target.template == "direct":
        figures["tvm_agreement"] = verified(10 * options.configurations, target, options.seed)
    if options.json:
        print(json.dumps(figures))
        return
    for one in all_judged:
        if one.allowed != one.taken:
            print("DISAGREES", one)
    for name, value in figures.items():
        print(f"{name:24} {value:.6g}")


if __name__ == "__main__":
    main()
