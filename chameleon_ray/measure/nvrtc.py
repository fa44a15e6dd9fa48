"""CUDA C++ to machine code, by NVIDIA's run-time compiler: needs no GPU, no nvcc and no headers."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import metadata
from typing import Any

from chameleon_ray.errors import MachineError, UnsupportedError

OPTIONS = ("--std=c++17",)

_INSTALL = "pip install 'chameleon-ray[cuda]'"
_DISTRIBUTIONS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


class CompileError(Exception):
    """What the compiler says about a source."""


def compile_cubin(source: str, arch: str) -> bytes:
    """The cubin of a source.

    Args:
        source: CUDA C++ that includes nothing.
        arch: Such as `sm_90`.

    Raises:
        CompileError: With the compiler's log.
        MachineError: There is no NVRTC.
        UnsupportedError: It does not know the architecture.
    """
    nvrtc = _nvrtc()
    if arch not in supported():
        raise UnsupportedError(
            f"NVRTC {version()} compiles for {', '.join(supported())}, not for {arch}. A newer "
            "GPU takes a newer nvidia-cuda-nvrtc, an older one nvidia-cuda-nvrtc-cu12."
        )
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    try:
        options = [f"--gpu-architecture={arch}".encode(), *(option.encode() for option in OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(status):
            raise CompileError(_text(nvrtc, program))
        cubin = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        nvrtc.nvrtcGetCUBIN(program, cubin)
        return cubin
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@cache
def supported() -> tuple[str, ...]:
    """The architectures that the compiler knows.

    Raises:
        MachineError: There is no NVRTC.
    """
    nvrtc = _nvrtc()
    return tuple(f"sm_{number}" for number in _checked(nvrtc.nvrtcGetSupportedArchs()))


@cache
def version() -> str:
    """Of the compiler, such as `13.0`.

    Raises:
        MachineError: There is no NVRTC.
    """
    _, major, minor = _nvrtc().nvrtcVersion()
    return f"{major}.{minor}"


@cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        try:
            nvrtc.nvrtcVersion()  # finds the library
        except RuntimeError:
            if not _loaded_from_the_path():
                raise
            nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError) as error:
        raise MachineError(
            f"there is no compiler for CUDA here ({error}). Install it with {_INSTALL}."
        ) from error
    return nvrtc


def _loaded_from_the_path() -> bool:
    """Whether an installed NVRTC was found where NVIDIA's bindings do not look, and loaded.

    They look in the interpreter's own site-packages. An environment that borrows another's by a
    `.pth` file (such as Ray makes for `runtime_env: {pip: ...}`), a PYTHONPATH or `pip install
    --target` have it elsewhere on `sys.path`. A library that is loaded already is taken by them.
    """
    for name in _DISTRIBUTIONS:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name.startswith(("libnvrtc.so", "nvrtc64_")):
                ctypes.CDLL(str(file.locate()))
                return True
    return False


def _checked(answer: Any) -> Any:
    """The value of an answer of NVRTC's: a status, and a value."""
    status, value = answer
    if int(status):
        raise CompileError(str(status))
    return value


def _text(nvrtc: Any, program: Any) -> str:
    log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.rstrip(b"\0\n").decode(errors="replace")
