"""A simulated device whose name depends on the node that it is on, as a backend of one's own."""

import os
from dataclasses import replace

from chameleon_ray.measure import simulated


def backend(env, target, seed):
    """The node's KIND is in its name."""
    kind = os.environ.get("KIND", "unnamed")
    return simulated.backend(env, replace(target, model=kind, cores=2), seed)
