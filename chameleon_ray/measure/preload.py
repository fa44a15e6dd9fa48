"""What the forkserver imports once, so that a new child is there in a moment."""

import torch
import tvm

import chameleon_ray.measure.tvm

__all__ = ["chameleon_ray", "torch", "tvm"]
