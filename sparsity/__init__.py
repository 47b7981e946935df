"""What does pruning a transformer really buy, on this machine?

    sparsity.save(model, folder), sparsity.load(folder)     pruned models as safetensors and JSON

Importing this package imports nothing else, so that readers of result files (`sparsity.record`)
never pull in torch. Start at `sparsity.prune` for pruning, `sparsity.measure` for measuring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsity.saving import load, save

__version__ = "0.1.0"
__all__ = ["__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    """`save` and `load`, imported when they are asked for."""
    if name in ("save", "load"):
        from sparsity import saving

        return getattr(saving, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
