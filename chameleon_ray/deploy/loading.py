"""A library that `deploy` made, as a function. Imports TVM when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PREPARE = "prepare"  # the function that comes before `main`


def loaded(library: Any) -> Callable[..., Any]:
    """What takes a model's inputs and returns its outputs, TVM's tensors.

    What there is to prepare is prepared, and kept as long as the function is.

    Args:
        library: As `tvm.compile` returns it, or `tvm.runtime.load_module`.
    """
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(library, tvm.cpu())
    main, prepared = machine["main"], machine[PREPARE]()
    return lambda *inputs: main(*inputs, prepared)
