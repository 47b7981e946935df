"""Pruning methods: how weights are scored. `METHODS` is the list of them, a plain dict.

A method that only scores is one file with a `score(weight, statistics)` and
`METHOD = Scored(score)`, and one line here. See CONTRIBUTING.md. Method files import torch only
inside functions, if at all, so that the options of the command line are known without it.
"""

from __future__ import annotations

from sparsity.methods import l1, l2, none, random_scores, shortgpt, sparsegpt, taylor, wanda, ziplm
from sparsity.methods.protocol import PruningMethod

METHODS: dict[str, PruningMethod] = {
    "none": none.METHOD,
    "l1": l1.METHOD,
    "l2": l2.METHOD,
    "random": random_scores.METHOD,
    "wanda": wanda.METHOD,
    "sparsegpt": sparsegpt.METHOD,
    "taylor": taylor.METHOD,
    "ziplm": ziplm.METHOD,
    "shortgpt": shortgpt.METHOD,
}
