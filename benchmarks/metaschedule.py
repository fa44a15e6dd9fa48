"""A whole network on this CPU: TVM's own MetaSchedule against ours, with as much time to tune.

    python benchmarks/metaschedule.py [--model resnet18] [--minutes 15] [--threads 2] [--turns 20]
                                      [--batch 16] [--out runs/metaschedule] [--json]

A model of torchvision's (random weights, batch 1, 224 x 224). Ours has so many minutes from the
start of its process on, and ends by itself; MetaSchedule has as long as ours took, from when its
search begins, and is then killed. It gets TVM's own pipeline for CPUs
(`relax.pipeline.static_shape_tuning_pipeline`): norms folded, operators fused, weights constant so
that it may rewrite their layouts. It measures --batch candidates of an operator at a time: with
TVM's 64, a quarter of an hour is over before all operators of ResNet-18 had their first turn, and
TVM keeps no record until then. What has no record at the end gets TVM's default schedule.

Both are then timed in turns, in processes of their own, beside torch. What is done is kept under
--out, and not done again by the same command.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from chameleon_ray import tune
from chameleon_ray.deploy.bench import in_turns, interval, some_inputs, timed
from chameleon_ray.deploy.build import deploy, target_of_threads
from chameleon_ray.deploy.contenders import Contender, Model, Started, Work
from chameleon_ray.env_settings import Env
from chameleon_ray.history import load
from chameleon_ray.machine import environment
from chameleon_ray.networks.source import Source, source_of

_LATE_SECONDS = 120.0  # after its time, a side that should end by itself is killed
_COMPILE_SECONDS = 1800.0
_LIBRARY = "metaschedule.so"
_RECORDS, _WORKLOADS = "database_tuning_record.json", "database_workload.json"
_BEGUN = "tasks.json"
_SCHEDULED = "tirx.is_scheduled"
_SIDES = ("chameleon", "metaschedule", "torch_eager")


def _graph(source: Source, threads: int) -> tuple[Any, Any]:
    """The model's operators as TVM's pipeline has them before it tunes, and TVM's target."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    from chameleon_ray.measure.tvm import tvm_target
    from chameleon_ray.networks.model import exported

    target = tvm_target(target_of_threads(threads))
    graph = from_exported_program(
        exported(source), keep_params_as_input=False, unwrap_unit_return_tuple=True
    )
    passes = (
        relax.transform.FoldBatchnormToConv2D(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
        relax.get_pipeline("zero"),
        relax.transform.AttachAttrLayoutFreeBuffers(),
    )
    with target:
        return tvm.transform.Sequential(passes)(graph), target


def _tune_theirs(source: Source, threads: int, batch: int, folder: Path) -> None:
    """Until it is killed.

    What builds is TVM's own, without what it imports for tensor instructions: that takes 10 s and
    more in each new process, which TVM starts for each batch, and no operator in float32 has them.
    """
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule import relax_integration as relax_ms

    def build(module: Any, target: Any, _params: Any) -> Any:
        from tvm.driver import build as tvm_build
        from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

        return tvm_build(RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module), target)

    graph, target = _graph(source, threads)
    tasks = relax_ms.extract_tasks(graph, target)
    contexts, weights = relax_ms.extracted_tasks_to_tune_contexts(
        tasks, str(folder), seed=0, num_threads=threads
    )
    (folder / _BEGUN).write_text(json.dumps([str(task.task_name) for task in tasks]))
    ms.tune_tasks(
        tasks=contexts,
        task_weights=weights,
        work_dir=str(folder),
        max_trials_global=10**6,
        num_trials_per_iter=batch,
        builder=ms.builder.LocalBuilder(max_workers=threads, f_build=build),
    )


def _compile_theirs(source: Source, threads: int, folder: Path) -> None:
    """With the best records there are."""
    import tvm
    from tvm import relax, tirx
    from tvm.s_tir import dlight

    graph, target = _graph(source, threads)
    with target:
        graph = relax.transform.MetaScheduleApplyDatabase(str(folder))(graph)
    without = [
        str(variable.name_hint)
        for variable, function in graph.functions.items()
        if isinstance(function, tirx.PrimFunc) and not (function.attrs or {}).get(_SCHEDULED)
    ]
    rest = (
        dlight.ApplyDefaultSchedule(dlight.cpu.GEMV(), dlight.cpu.Reduction()),
        relax.transform.SplitLayoutRewritePreproc(),
        relax.transform.LiftTransformParams(),
        relax.transform.FoldConstant(),
    )
    with target:
        graph = tvm.transform.Sequential(rest)(graph)
    tvm.compile(graph, target=target).export_library(str(folder / _LIBRARY))
    (folder / "without.json").write_text(json.dumps(without))


def _run_theirs(work: Work) -> Model:
    import tvm
    from tvm import relax

    library = tvm.runtime.load_module(str(work.folder / _LIBRARY))
    main = relax.VirtualMachine(library, tvm.cpu())["main"]
    return lambda arrays: partial(main, *map(tvm.runtime.tensor, arrays))


def _tune_ours(source: Source, threads: int, ends_at: float, folder: Path) -> None:
    tune(
        source.name,
        inputs=source.written_inputs,
        env=Env(cores=threads),
        time_budget_seconds=ends_at - time.time(),
        run=folder / "run",
        cold=True,
    )


def _alone(function: Callable[..., None], *arguments: Any) -> None:
    os.setsid()  # whom it starts ends with it
    function(*arguments)


def _in_a_process(
    function: Callable[..., None],
    *arguments: Any,
    threads: int,
    seconds: float,
    begun: Path | None = None,
) -> int | None:
    """Its exit code; None if it was killed after so many seconds, with all that it started.

    If there is a file `begun`, they count from when that is written.
    """
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_alone, args=(function, *arguments))
    names = ("TVM_NUM_THREADS", "OMP_NUM_THREADS")
    with environment(dict.fromkeys(names, str(threads))):
        process.start()
    try:
        while begun is not None and not begun.exists() and process.is_alive():
            time.sleep(0.1)
        process.join(seconds)
        return process.exitcode
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _whole_lines(file: Path) -> list[Any]:
    """What a database's file holds; what was being written when its process was killed is cut."""
    kept, found = [], []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
        kept.append(line)
    file.write_text("".join(f"{line}\n" for line in kept))
    return found


def _once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a step has found, of now or of a call before."""
    if not file.exists():
        file.write_text(json.dumps(make()))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def theirs(source: Source, o: argparse.Namespace, seconds: float, folder: Path) -> dict[str, Any]:
    """MetaSchedule's side: tuned for so long."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = folder / _BEGUN
    code = _in_a_process(
        _tune_theirs, source, o.threads, o.batch, folder,
        threads=o.threads, seconds=seconds, begun=begun,
    )  # fmt: skip
    if not begun.exists():
        raise SystemExit(f"MetaSchedule did not begin: exit code {code}")
    tuning_seconds = time.time() - begun.stat().st_mtime
    if code is not None:
        print(f"MetaSchedule ended early, with code {code}, in {tuning_seconds:.0f} s", flush=True)
    _whole_lines(folder / _WORKLOADS)
    records = _whole_lines(folder / _RECORDS)
    if not records:
        print("MetaSchedule kept no record: it had too little time for a turn of each operator.")
    return {
        "tuning_seconds": tuning_seconds,
        "ended_with": code,
        "measurements": len(records),
        "tasks": len(json.loads(begun.read_text())),
    }


def compiled(source: Source, o: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What came of MetaSchedule's records."""
    code = _in_a_process(
        _compile_theirs, source, o.threads, folder, threads=o.threads, seconds=_COMPILE_SECONDS
    )
    if code != 0:
        raise SystemExit(f"what MetaSchedule found cannot be compiled: exit code {code}")
    return {"without_record": json.loads((folder / "without.json").read_text())}


def ours(source: Source, o: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Our side: tuned."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.time()
    code = _in_a_process(
        _tune_ours, source, o.threads, started + 60 * o.minutes, folder,
        threads=o.threads, seconds=60 * o.minutes + _LATE_SECONDS,
    )  # fmt: skip
    layers = load(folder / "run").result.layers
    return {
        "tuning_seconds": time.time() - started,
        "ended_with": code,
        "measurements": sum(layer.measurements for layer in layers),
        "tasks": len(layers),
    }


def compared(source: Source, o: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Both, and torch, in turns."""
    arrays, *more = some_inputs(source.inputs)
    folders = {"chameleon": out / "deployed", "metaschedule": out / "metaschedule"}
    makers = {"metaschedule": _run_theirs}
    with ExitStack() as stack:
        running, started = {}, {}
        for name in _SIDES:
            folder = folders.get(name, out)
            work = Work(
                folder=folder, source=source, arrays=arrays, threads=o.threads, more=tuple(more)
            )
            running[name] = Contender(name, work, make=makers.get(name))
            stack.callback(running[name].close)
            started[name] = running[name].started()
            if not isinstance(started[name], Started):
                raise SystemExit(f"{name} does not run: {started[name]}")
        times = in_turns(running, o.turns, started)
    right = started["torch_eager"].outputs
    rows = {name: timed(name, started[name], times.get(name, ()), None, right) for name in _SIDES}
    ratios = [a / b for a, b in zip(times["chameleon"], times["metaschedule"], strict=True)]
    found: dict[str, Any] = {
        name: {"seconds": row.seconds, "interval": [row.low, row.high], "error": row.error}
        for name, row in rows.items()
    }
    return found | {"ratio": statistics.median(ratios), "ratio_interval": interval(ratios)}


def measured(o: argparse.Namespace) -> dict[str, Any]:
    """All of it, but what was done before."""
    source = source_of(f"torchvision:{o.model}")
    out = o.out / f"{o.model}-{o.threads}-{o.minutes:g}"
    out.mkdir(parents=True, exist_ok=True)
    ours_tuned = _once(out / "ours.json", lambda: ours(source, o, out / "ours"))
    seconds = ours_tuned["tuning_seconds"]
    theirs_tuned = _once(
        out / "theirs.json", lambda: theirs(source, o, seconds, out / "metaschedule")
    )
    tuned = {"chameleon": ours_tuned, "metaschedule": theirs_tuned}
    tuned["metaschedule"] |= _once(
        out / "compiled.json", lambda: compiled(source, o, out / "metaschedule")
    )
    shutil.rmtree(out / "deployed", ignore_errors=True)
    deploy(str(out / "ours" / "run"), out / "deployed", threads=o.threads)
    found = compared(source, o, out)
    for name, row in tuned.items():
        found[name] |= row
    found |= {"model": o.model, "threads": o.threads, "minutes": o.minutes, "batch": o.batch}
    (out / "result.json").write_text(json.dumps(found, indent=1))
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/metaschedule"))
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    found = measured(o)
    if o.json:
        print(json.dumps(found))
        return
    for name in _SIDES:
        row = found[name]
        low, high = (1e3 * x for x in row["interval"])
        print(f"{name}: {1e3 * row['seconds']:.2f} ms ({low:.2f} to {high:.2f}), "
              f"error {row['error']:.1g}", end="")  # fmt: skip
        if "measurements" in row:
            print(f"; {row['measurements']} measurements of {row['tasks']} tasks in "
                  f"{row['tuning_seconds']:.0f} s", end="")  # fmt: skip
        print(f"; without a record: {', '.join(row['without_record']) or 'nothing'}"
              if "without_record" in row else "")  # fmt: skip
    low, high = found["ratio_interval"]
    print(f"ours / theirs: {found['ratio']:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
