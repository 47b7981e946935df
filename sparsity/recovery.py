"""What a recovery is, as one word of the command line: its kind, its budget, and whether it prunes as it trains.

    none                      one-shot: nothing after pruning
    reconstruct               layer by layer, least squares of the weights that stay: no labels, no gradients
    finetune:200              200 steps on the task, masks held
    distill:200               the same, with the unpruned model as teacher
    gradual-distill:200       pruned little by little during those steps (so is gradual-finetune)
    transfer:200              the pretrained model is pruned, then given a classifier and trained on the task
    distill:60s               60 seconds instead: as many steps as this machine makes of them

Standard library only. Refuses what is none of these, with the nearest that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sparsity.errors import BadValue, UnknownName

KINDS = {
    "none": "one-shot: nothing after pruning",
    "reconstruct": "least squares of the weights that stay, layer by layer: no labels, no gradients",
    "finetune": "training on the task with masks held; of a fine-tuned model: prune after fine-tuning",
    "distill": "the same, with the unpruned model as teacher",
    "transfer": "prune the pretrained model, then fine-tune it on the task: the original study's recipe",
}
"""What there is, and what it means."""
TRAINED = ("finetune", "distill", "transfer")
"""Those that have a budget."""
GRADUAL = "gradual-"
EXAMPLES = ("none", "reconstruct", "finetune:200", "distill:200", "gradual-distill:200", "transfer:200", "distill:60s")
LARGEST = 9_999_999
"""Steps, or seconds."""
_BUDGET = re.compile(r"([1-9][0-9]{0,6})(s?)")


@dataclass(frozen=True)
class Recovery:
    """How a pruned model wins quality back."""

    kind: str = "none"
    """A key of `KINDS`."""
    steps: int | None = None
    """Optimizer steps. None for a budget in seconds, and for kinds that do not train."""
    seconds: int | None = None
    gradual: bool = False
    """Whether sparsity rises while it trains, instead of all at once before."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("recovery", self.kind, KINDS)
        given = [budget for budget in (self.steps, self.seconds) if budget is not None]
        if len(given) != self.trains or not all(type(one) is int and 0 < one <= LARGEST for one in given):
            word = f"{GRADUAL if self.gradual else ''}{self.kind}"
            raise BadValue(f"recovery {word}: {_how_to_say(self.kind, word)}")
        if self.gradual and not self.trains:
            raise BadValue(f"recovery {self.kind} does not train, so it cannot prune as it trains")

    @property
    def trains(self) -> bool:
        """Whether it has a budget of training."""
        return self.kind in TRAINED

    @property
    def budget(self) -> str:
        """`200`, or `60s`; empty for what does not train."""
        return "" if not self.trains else str(self.steps) if self.steps is not None else f"{self.seconds}s"

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{GRADUAL if self.gradual else ''}{self.kind}{':' if self.trains else ''}{self.budget}"

    def __bool__(self) -> bool:
        """False for `none`."""
        return self.kind != "none"

    @property
    def control(self) -> Recovery:
        """What the unpruned model goes through beside it: as much training, so that training alone wins nothing."""
        if not self.trains:
            return Recovery()
        kind = "transfer" if self.kind == "transfer" else "finetune"
        return Recovery(kind, self.steps, self.seconds)


NONE = Recovery()


def parse(text: str) -> Recovery:
    """The recovery of a word such as `distill:200`.

    Raises `UnknownName` for a kind that does not exist, `BadValue` for a budget that is none.
    """
    word, colon, budget = text.partition(":")
    kind = word.removeprefix(GRADUAL)
    if kind not in KINDS:
        raise UnknownName("recovery", text, EXAMPLES)
    if not colon:
        return Recovery(kind, gradual=word != kind)
    found = _BUDGET.fullmatch(budget)
    if found is None or kind not in TRAINED:
        raise BadValue(f"recovery {text!r}: {_how_to_say(kind, word)}")
    count, unit = int(found[1]), found[2]
    return Recovery(kind, None if unit else count, count if unit else None, gradual=word != kind)


def _how_to_say(kind: str, word: str) -> str:
    if kind not in TRAINED:
        return f"{kind} has no budget; say {kind}"
    return f"say how many steps or seconds, up to {LARGEST}, as in {word}:200 or {word}:60s"


def said(recovery: Recovery, words: Callable[[int], str] = str) -> str:
    """For a reader: `200 steps distilled`, `reconstructed`; empty for none."""
    done = {"finetune": "fine-tuned", "distill": "distilled", "transfer": "transferred"}
    if not recovery.trains:
        return "reconstructed" if recovery else ""
    length = f"{words(recovery.steps)} steps" if recovery.steps is not None else f"{recovery.seconds} s"
    return f"{length} {done.get(recovery.kind, recovery.kind)}{' while pruning' if recovery.gradual else ''}"
