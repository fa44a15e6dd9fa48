"""Measures an archive of generated kernels on this machine's GPU: no TVM, no Ray beside it.

    python benchmarks/gpu_measure.py ARCHIVE --out DIR [--minutes 8] [--builders N]

What it takes: NVIDIA's driver, and numpy, torch, pydantic, cuda-bindings and nvidia-cuda-nvrtc.
`gpu.py pack` makes the archive, `gpu.py record` a run folder of what comes out. It goes on where it
stopped: every measurement is a line in DIR, written as soon as it is made. Layers take turns, so
that whatever time allows is spread over all of them.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import os
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chameleon_ray.env_settings import Env, RepeatSettings
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure import Job, Measurement, Purpose
from chameleon_ray.measure.backend import Backend, Device, Part, target_here
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.child import Child
from chameleon_ray.measure.cuda import CudaBuilder, Generate
from chameleon_ray.measure.cuda_kernel import CudaSource
from chameleon_ray.measure.cuda_parts import backend_of
from chameleon_ray.measure.host import Host, Work
from chameleon_ray.measure.nvrtc import version
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import ROUNDING, Conv2d, GpuTemplate, Target

_ARCHIVE = "CHAMELEON_ARCHIVE"  # in the environment of the processes that build
_AHEAD = 3  # jobs for each builder that the host is given

ENV = Env(
    measurer="gpu_measure:backend",
    target="cuda",
    repeats=RepeatSettings(seconds=0.002, least=3, most=10, interval=0.01, slower=100.0),
    build_timeout_seconds=60.0,
)
TARGET = "target.json"  # in an archive, what its kernels are for


def env_of(template: GpuTemplate) -> Env:
    """How a template's kernels are measured."""
    tolerance = 1e-2 if template in ROUNDING else ENV.tolerance
    return replace(ENV, template=template, tolerance=tolerance)


def template_of(archive: Path) -> GpuTemplate:
    """Which template an archive's kernels are of."""
    with tarfile.open(archive) as tar:
        found: GpuTemplate = json.loads(_text(tar, TARGET))["template"]
    return found


def _text(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(name)
    if file is None:
        raise SystemExit(f"{tar.name}: {name} is no file; `gpu.py pack` writes such archives.")
    return file.read().decode()


def entries(archive: Path) -> dict[str, list[dict[str, Any]]]:
    """What an archive holds: task key -> its kernels, in the order in which they are measured."""
    with tarfile.open(archive) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jsonl")]
        return {
            name.removesuffix(".jsonl"): [*map(json.loads, _text(tar, name).splitlines())]
            for name in names
        }


def archived(archive: str) -> Generate:
    """Finds the source of a config in an archive, which is read now: no candidate waits for it."""
    sources = _sources(archive)

    def found(task: Conv2d, _target: Target, config: KnobValues) -> CudaSource:
        return sources[task.key, _mark(config)]

    return found


def _sources(archive: str) -> dict[tuple[str, str], CudaSource]:
    found = {}
    for task, kernels in entries(Path(archive)).items():
        for kernel in kernels:
            source = {name: tuple(kernel[name]) for name in ("grid", "block", "arguments")}
            found[task, _mark(kernel["config"])] = CudaSource(
                text=kernel["text"], shared_bytes=kernel["shared_bytes"], **source
            )
    return found


def _mark(config: Any) -> str:
    return json.dumps({name: list(value) for name, value in config.items()})


def backend(env: Env, target: Target, seed: int, part: Part = "whole") -> Backend:
    """The archive's kernels on this GPU (`measure.backend`)."""
    compiler = f"nvrtc {version()}"

    def builder(resolved: Target) -> CudaBuilder:
        return CudaBuilder(archived(os.environ[_ARCHIVE]), resolved, caches=False)

    return backend_of(builder, env, target, seed, part, compiler=compiler)


def jobs(archive: Path, out: Path, *, torch: bool) -> Iterator[Job]:
    """What is still to be measured, a kernel of each layer in turn; with `torch`, its own first."""
    queues, of_torch = [], [{"config": {}}] if torch else []
    for key, kernels in entries(archive).items():
        done = {
            _mark(line["config"])
            for line in lines(out, key)
            if line["config"] or line["outcome"] == "ok"  # torch's own is tried again
        }
        task = Conv2d.from_key(key)
        queues.append(
            [
                Job(
                    task=task,
                    config={n: tuple(v) for n, v in kernel["config"].items()},
                    purpose=Purpose.SEARCH if kernel["config"] else Purpose.TORCH,
                )
                for kernel in [*of_torch, *kernels]
                if _mark(kernel["config"]) not in done
            ]
        )
    for turn in itertools.zip_longest(*queues):
        yield from (job for job in turn if job is not None)


def lines(out: Path, key: str) -> list[dict[str, Any]]:
    """What was measured of a task; a line that a kill cut off is none."""
    found = []
    try:
        text = (out / f"{key}.jsonl").read_text()
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def measure(archive: Path, out: Path, minutes: float, builders: int) -> tuple[Device, int]:
    """Measure until all is done or the time is over; on what, and how many."""
    ends, counted = time.monotonic() + 60 * minutes, 0
    os.environ[_ARCHIVE] = str(archive.resolve())
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    env = env_of(template_of(archive))
    runner = Child(env, target_here(env), 0, "run")
    host = Host([Bench(env, target_here(env), 0, runner=runner) for _ in range(builders)])
    device = host.start()
    _write_device(out, device)
    waiting, numbers, in_hand = jobs(archive, out, torch=device.has_torch), itertools.count(), 0
    while True:
        room = _AHEAD * builders - in_hand if time.monotonic() < ends else 0
        works = [
            Work(number=next(numbers), jobs=(job,), seconds=1.0)
            for job in itertools.islice(waiting, max(0, room))
        ]
        host.put(works)
        in_hand += len(works)
        if not in_hand:
            break
        for _, measured in host.take(1.0):
            in_hand -= 1
            counted += 1
            _write(out, measured[0])
    host.close()
    runner.kill()
    return device, counted


def _write_device(out: Path, device: Device) -> None:
    """Say what it is; another than before would mix what cannot be compared."""
    file, text = out / "device.json", json.dumps(asdict(replace(device, unit="")))
    if file.exists() and file.read_text() != text:
        raise SystemExit(f"{out} is of {file.read_text()}, and this is {text}: take another --out")
    file.write_text(text)


def _write(out: Path, m: Measurement) -> None:
    """A line, on disk when this returns."""
    line = asdict(m) | {"at": time.time()}
    with (out / f"{m.task}.jsonl").open("a") as file:
        file.write("\n" + json.dumps(line) + "\n")  # the line before may have been cut off
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Measure, and say how far it got."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--builders", type=int, default=max(1, usable_cores() - 1))
    o = parser.parse_args()
    begun = time.monotonic()
    device, counted = measure(o.archive, o.out, o.minutes, o.builders)
    left = sum(1 for _ in jobs(o.archive, o.out, torch=device.has_torch))
    seconds = time.monotonic() - begun
    print(f"{device.words}: {counted} measured in {seconds:.0f} s, {left} left")


if __name__ == "__main__":
    main()
