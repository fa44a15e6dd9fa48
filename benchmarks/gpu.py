"""The 26 layers on a GPU that has no TVM beside it: sources go there, measurements come back.

    python benchmarks/gpu.py pack [--template direct] [--networks resnet18 ...] [--per-layer 250]
                                  [--arch sm_90] [--out gpu_sources.tar.xz]
    python benchmarks/gpu_measure.py gpu_sources.tar.xz --out DIR       # on the GPU's machine
    python benchmarks/gpu.py record DIR --run RUN

`pack` generates the CUDA sources of the default and of random valid configs of each layer. `record`
makes a run folder for each network of what was measured, which `chameleon-ray show`, `report` and
`record` read; the last writes recorded spaces, on which every policy can be replayed.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from gpu_measure import TARGET, env_of, lines

from chameleon_ray.machine import usable_cores
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.cuda import generator
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.presets import load_policy
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.run_folder import Manifest, RunFolder
from chameleon_ray.tasks import Conv2d, GpuTemplate, Layer, Target
from chameleon_ray.templates import default_config, design_space, template_version

_MOST_BYTES = 60 * 10**6  # of an archive


def sample(task: Conv2d, target: Target, n: int) -> list[list[int]]:
    """The default and random valid configs of a task, `n` in all."""
    space, default = design_space(task, target), default_config(task, target)
    others = space.random(n - 1, np.random.default_rng(0), avoid=default[None, :])
    return [default.tolist(), *others.tolist()]


def kernels(task: Conv2d, rows: Sequence[Sequence[int]], *, target: Target) -> str:
    """A line of JSON for each config of a task: its values, source and launch."""
    (generate, _), space, found = generator(target), design_space(task, target), []
    for row in rows:
        config = space.describe(np.array(row, dtype=np.int32))
        found.append(json.dumps({"config": config, **asdict(generate(task, target, config))}))
    return "\n".join(found) + "\n"


def pack(tasks: Sequence[Conv2d], target: Target, per_layer: int, out: Path) -> int:
    """Write an archive of so many kernels of each task; its bytes."""
    rows = [sample(task, target, per_layer) for task in tasks]
    with ProcessPoolExecutor(usable_cores()) as pool, tarfile.open(out, "w:xz") as tar:
        texts = pool.map(partial(kernels, target=target), tasks, rows)
        _add(tar, TARGET, json.dumps(asdict(target)))
        for task, text in zip(tasks, texts, strict=True):
            _add(tar, f"{task.key}.jsonl", text)
    return out.stat().st_size


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def record(measured: Path, run: Path) -> dict[str, int]:
    """Make a run folder of what came back of each network; how many measurements it holds."""
    device = json.loads((measured / "device.json").read_text())
    device["target"] = Target(**device["target"])
    counts = {}
    for name in NETWORKS:
        layers = [x for x in network(name) if (measured / f"{x.task.key}.jsonl").exists()]
        if layers:
            found = [m for layer in layers for m in _measurements(measured, layer.task)]
            _write_run(run / name, name, layers, found, Device(**device))
            counts[name] = len(found)
    return counts


def _write_run(
    run: Path, name: str, layers: Sequence[Layer], found: Sequence[Measurement], device: Device
) -> None:
    policy, policy_settings = load_policy("random")
    manifest = Manifest(
        network=name,
        env="cuda",
        policy=policy,
        seed=0,
        env_settings=env_of(device.target.template),
        policy_settings=policy_settings,
        machine=device.machine,
        compiler=device.compiler,
        template=template_version(device.target),
    )
    provenance = Provenance(
        machine=device.machine,
        compiler=device.compiler,
        template=manifest.template,
        env="cuda",
        policy=policy,
    )
    with closing(RunFolder(run)) as folder:
        folder.begin(manifest, layers=tuple(layer.index for layer in layers))
        journal = Journal(run, provenance)
        known = {(r.measurement.task, str(r.measurement.config)) for r in journal.records()}
        journal.append([m for m in found if (m.task, str(m.config)) not in known])


def _measurements(measured: Path, task: Conv2d) -> Iterator[Measurement]:
    for line in lines(measured, task.key):
        yield Measurement(
            **{name: line[name] for name in _PLAIN},
            config={knob: tuple(choice) for knob, choice in line["config"].items()},
            purpose=Purpose(line["purpose"]),
            outcome=Outcome(line["outcome"]),
            **{name: tuple(line[name]) for name in _LISTS},
        )


_LISTS = ("repeat_seconds", "clock_mhz", "celsius", "others")
_PLAIN = ("task", "message", "build_seconds", "run_seconds", "error", "device")


def main() -> None:
    """Pack, or record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    packing.add_argument("--template", default="direct", choices=get_args(GpuTemplate))
    packing.add_argument("--per-layer", type=int, default=250)
    packing.add_argument("--arch", default="sm_90")
    packing.add_argument("--sms", type=int, default=132, help="streaming multiprocessors")
    packing.add_argument("--out", type=Path, default=Path("gpu_sources.tar.xz"))
    recording = commands.add_parser("record")
    recording.add_argument("measured", type=Path)
    recording.add_argument("--run", type=Path, required=True)
    o = parser.parse_args()
    if o.command == "record":
        for name, count in record(o.measured, o.run).items():
            print(f"{o.run / name}: {count} measurements")
        return
    target = Target(kind="cuda", model=o.arch, lanes=32, cores=o.sms, template=o.template)
    tasks = [layer.task for name in o.networks for layer in network(name)]
    size = pack(tasks, target, o.per_layer, o.out)
    print(f"{o.out}: {len(tasks)} layers, {o.per_layer} kernels of each, {size / 1e6:.1f} MB")
    if size > _MOST_BYTES:
        raise SystemExit(f"more than {_MOST_BYTES / 1e6:.0f} MB: take fewer with --per-layer")


if __name__ == "__main__":
    main()
