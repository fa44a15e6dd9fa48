"""Whoever runs a model, each in a process of its own: ours, torch in its forms, onnxruntime."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chameleon_ray.deploy.folder import LIBRARY
from chameleon_ray.deploy.loading import loaded
from chameleon_ray.machine import environment
from chameleon_ray.networks.source import Source

Name = Literal["chameleon", "torch_eager", "torch_folded", "torch_compile", "onnxruntime"]

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Call = Callable[[], object]
Model = Callable[[Arrays], Call]  # what runs it with these inputs

_START_SECONDS = 300.0  # torch.compile takes its time
_TURN_SECONDS = 120.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all contenders do.

    Attributes:
        folder: That `deploy` made.
        source: The model.
        arrays: Its inputs, with which it is timed.
        threads: That each may use.
        more: Other inputs, of which outputs are wanted, too.
    """

    folder: Path
    source: Source
    arrays: Arrays
    threads: int
    more: tuple[Arrays, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a contender says once it is ready.

    Attributes:
        outputs: Of the model, for all inputs that it was given.
        start_seconds: From the start of its process until the first of those.
    """

    outputs: tuple[Array, ...]
    start_seconds: float


class GoneError(Exception):
    """A contender's process has ended, or does not answer."""


class Contender:
    """The parent's handle of one.

    Args:
        name: Which.
        work: What it does.
        make: What makes its model, of one that is not among those here; it is pickled.
    """

    def __init__(self, name: Name, work: Work, make: Callable[[Work], Model] | None = None) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, make or _MAKERS[name], work, time.time())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with environment(dict.fromkeys(_THREADS, str(work.threads))):
            self._process.start()
        theirs.close()

    def started(self) -> Started | str:
        """What it says once it is ready, or why it will not be."""
        answer: Started | str = self._answer(_START_SECONDS)
        return answer

    def times(self, calls: int) -> list[float]:
        """Seconds of so many executions, after one that does not count.

        Raises:
            GoneError: It is gone; the message says how.
        """
        answer = self._answer(_TURN_SECONDS, to=calls)
        if isinstance(answer, str):
            raise GoneError(answer)
        times: list[float] = answer
        return times

    def peak_bytes(self) -> int | None:
        """The most memory that it has had so far; None if it is gone."""
        answer = self._answer(_TURN_SECONDS, to=0)
        return None if isinstance(answer, str) else int(answer)

    def _answer(self, seconds: float, *, to: int | None = None) -> Any:
        """What it answers, or in words why it does not."""
        try:
            if to is not None:
                self._connection.send(to)
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(1.0)
            return f"its process ended with code {self._process.exitcode}"
        return f"no answer within {seconds:g} s"

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, make: Callable[[Work], Model], work: Work, began: float) -> None:
    os.dup2(2, 1)  # what libraries print is none of the result
    try:
        model = make(work)
        call = model(work.arrays)
        outputs = [*_arrays(call())]
        start_seconds = time.time() - began
        for arrays in work.more:
            outputs += _arrays(model(arrays)())
        connection.send(Started(outputs=tuple(outputs), start_seconds=start_seconds))
    except Exception as error:  # noqa: BLE001 - whatever a compiler may raise
        connection.send(traceback.format_exception_only(error)[-1].strip().splitlines()[0])
        return
    while True:
        try:
            calls = connection.recv()
        except EOFError:
            return
        if calls:
            call()
            connection.send([_seconds(call) for _ in range(calls)])
        else:
            connection.send(_peak_bytes())


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_bytes() -> int:
    """Of this process alone; what `getrusage` says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _arrays(output: Any) -> Iterator[Array]:
    """All outputs, in order, whatever holds them and whatever kind of tensor they are."""
    if isinstance(output, Mapping):
        output = list(output.values())
    if hasattr(output, "numpy"):
        yield np.asarray(output.numpy())
    elif isinstance(output, np.ndarray):
        yield output
    else:  # a tuple, a list, or TVM's
        for one in output:
            yield from _arrays(one)


def _chameleon(work: Work) -> Model:
    import tvm

    model = loaded(tvm.runtime.load_module(str(work.folder / LIBRARY)))
    return lambda arrays: partial(model, *map(tvm.runtime.tensor, arrays))


def _torch_eager(work: Work) -> Model:
    return _of_torch(work, lambda module: module)


def _torch_folded(work: Work) -> Model:
    from torch.fx.experimental.optimization import fuse

    return _of_torch(work, fuse)


def _torch_compile(work: Work) -> Model:
    import torch

    return _of_torch(work, torch.compile)


def _of_torch(work: Work, changed: Callable[[Any], Any]) -> Model:
    import torch

    from chameleon_ray.networks.model import torch_module

    torch.set_num_threads(work.threads)
    run = changed(torch_module(work.source))

    def call(*tensors: torch.Tensor) -> Any:
        with torch.inference_mode():
            return run(*tensors)

    return lambda arrays: partial(call, *map(torch.tensor, arrays))


def _onnxruntime(work: Work) -> Model:
    import onnxruntime

    from chameleon_ray.networks.model import onnx_file

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = work.threads, 1
    with onnx_file(work.source) as file:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    names = [one.name for one in session.get_inputs()]
    return lambda arrays: partial(session.run, None, dict(zip(names, arrays, strict=True)))


_MAKERS: dict[Name, Callable[[Work], Model]] = {
    "chameleon": _chameleon,
    "torch_eager": _torch_eager,
    "torch_folded": _torch_folded,
    "torch_compile": _torch_compile,
    "onnxruntime": _onnxruntime,
}
NAMES: tuple[Name, ...] = tuple(_MAKERS)
