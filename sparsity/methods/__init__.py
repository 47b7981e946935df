"""Pruning methods: how weights are scored. `METHODS` is the list of them, a plain dict.

A method that only scores is one file with a `score(weight, statistics)` and
`METHOD = Scored(score)`, and one line here. See CONTRIBUTING.md. Method files import torch only
inside functions, if at all, so that the options of the command line are known without it.
"""

from __future__ import annotations

from sparsity.methods import l1, none, random_scores
from sparsity.methods.scored import PruningMethod

METHODS: dict[str, PruningMethod] = {
    "none": none.METHOD,
    "l1": l1.METHOD,
    "random": random_scores.METHOD,
}
