"""Forward passes compiled by `torch.compile`.

Each is compiled as one graph, for the very shapes that it meets: where torch would fall back to running parts of a
model as they are, or to code for any shape, its times would not be those of a compiled model.

Refuses what cannot be compiled so, with what torch says, such as that there is no C++ compiler; and generations, which
would be compiled anew at every length.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from sparsity import workload
from sparsity.errors import Refused
from sparsity.formats.protocol import skeleton

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.workload import Workload

BACKEND = "inductor"
GRAPHS = 1 << 16
"""Models and workloads that a run may have of a family; torch itself gives up after 8."""
STEPS = 2
"""The second step of a decode meets a cache that compiled code left, and is compiled once more."""


def call(work: Workload, model: PreTrainedModel, head: bool = True) -> Callable[[], torch.Tensor]:
    """As `workload.call`, compiled and run until nothing is left to compile.

    Models that differ in the values of their tensors alone share code.
    """
    import torch
    from torch._dynamo import config

    if work.generated:
        raise Refused(f"workload {work}: a generation would be compiled anew at every length; leave out --compile")
    config.recompile_limit = config.accumulated_recompile_limit = GRAPHS
    twin = skeleton(model)
    part = twin if head else twin.base_model
    forward = torch.compile(part.forward, fullgraph=True, dynamic=False, backend=BACKEND)
    setattr(part, "forward", forward)  # noqa: B010  # to a method no one may assign
    found = workload.call(work, twin, head)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of its own ways
            for _ in range(STEPS if work.phase == workload.DECODE else 1):
                found()
    except Exception as error:  # torch has many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise Refused(f"torch.compile does not take this model here: {' '.join(lines[:2])}") from None
    return found
