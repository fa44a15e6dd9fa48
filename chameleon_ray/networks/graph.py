"""What is asked of a graph of operators, and how one is rewritten. Imports TVM."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator


def sizes_of(x: Any) -> list[int]:
    """Of a tensor's axes; they are known (`are_static`)."""
    return [*map(int, x.ty.shape)]


def are_static(*operands: Any) -> bool:
    """Whether the sizes of all tensors among them are known before anything runs."""
    tensors = (x for x in operands if not isinstance(x, relax.ShapeExpr))
    shapes = [getattr(x.ty, "shape", None) for x in tensors]
    return all(s is not None and all(isinstance(n, int | tirx.IntImm) for n in s) for s in shapes)


def rewritten(graph: tvm.IRModule, changing: PyExprMutator) -> tvm.IRModule:
    """A graph after what a mutator, made for it, does to its function."""
    main = changing.visit_expr(graph["main"])
    found = changing.builder_.get()
    found.update_func(graph.get_global_var("main"), main)
    return found
