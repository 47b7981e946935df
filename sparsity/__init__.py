"""What does pruning a transformer really buy, on this machine?

Importing this package imports nothing else, so that readers of result files (`sparsity.record`)
never pull in torch. Start at `sparsity.prune` for pruning, `sparsity.measure` for measuring.
"""

__version__ = "0.1.0"
