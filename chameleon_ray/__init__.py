"""Finds the fastest code for each layer of a neural network, with few measurements, on Ray.

from chameleon_ray import tune

result = tune("resnet18", env="cpu", policy="chameleon", trials=64)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chameleon_ray.network_tuner import tune as tune

    __version__: str

__all__ = ["__version__", "tune"]


def __getattr__(name: str) -> object:
    """What the package offers, imported when it is asked for: Ray alone takes a second."""
    if name == "tune":
        from chameleon_ray.network_tuner import tune

        return tune
    if name == "__version__":
        from importlib.metadata import version

        return version("chameleon-ray")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
