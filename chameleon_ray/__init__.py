"""Finds the fastest code for each layer of a neural network, with few measurements, on Ray.

from chameleon_ray import tune

result = tune("resnet18", env="cpu", policy="chameleon", trials=64)

and the best settings of any function that can be timed:

from chameleon_ray import tune_function

result = tune_function(measure, {"block": [32, 64, 128], "unroll": [False, True]}, trials=64)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chameleon_ray.function_result import (
        Attempt as Attempt,
        FunctionResult as FunctionResult,
    )
    from chameleon_ray.function_tuner import tune_function as tune_function
    from chameleon_ray.network_tuner import tune as tune

    __version__: str

__all__ = ["Attempt", "FunctionResult", "__version__", "tune", "tune_function"]


def __getattr__(name: str) -> object:
    """What the package offers, imported when it is asked for: Ray alone takes a second."""
    if name == "tune":
        from chameleon_ray.network_tuner import tune

        return tune
    if name == "tune_function":
        from chameleon_ray.function_tuner import tune_function

        return tune_function
    if name in {"Attempt", "FunctionResult"}:
        from chameleon_ray import function_result

        return getattr(function_result, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("chameleon-ray")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
