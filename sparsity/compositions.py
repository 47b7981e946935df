"""The compositions of a run: one step after the other on one model, each recorded as what it is.

The control of a step is the unpruned model after as much training as all steps so far together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sparsity import composition, record
from sparsity.bench import CONTROL
from sparsity.composition import Step
from sparsity.recoveries import Key, Outcome, Recoveries, recovered
from sparsity.recovery import Recovery
from sparsity.tasks import quality
from sparsity.training_state import START, Reached

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sparsity.prune import PrunedModel

Steps = tuple[Step, ...]


class Arrived(NamedTuple):
    """The model after some steps, in the coordinates of the unpruned one, and the training of all of them."""

    pruned: PrunedModel
    reached: Reached


@dataclass
class Compositions:
    """What a run has composed so far; the models of one reference are held at a time."""

    recoveries: Recoveries
    made: dict[tuple[str, str, Steps, int], Arrived] = field(default_factory=dict)

    def after(self, reference: str, task: str, steps: Steps, seed: int) -> Arrived:
        """The model after the steps; what is known of their beginning is not done again.

        Raises what `composition.check` does.
        """
        composition.check(steps)
        key = (reference, task, steps, seed)
        if key not in self.made:
            before = self.after(reference, task, steps[:-1], seed) if len(steps) > 1 else None
            self.made = {known: arrived for known, arrived in self.made.items() if known[0] == reference}
            self.made[key] = self._made(key, before)
        return self.made[key]

    def _made(self, key: tuple[str, str, Steps, int], before: Arrived | None) -> Arrived:
        reference, task, steps, seed = key
        last = steps[-1]
        if last.recipe is None:
            assert before is not None  # it was checked that the first step prunes
            return before
        title = " ".join((reference, task, "after", composition.said(steps), "seed", str(seed)))
        wanted = Key(reference, task, last.recipe, last.recovery, seed)
        spent = before.reached if before else START
        found = self.recoveries.train(wanted, title, before.pruned.model if before else None, spent.steps)
        if before is not None:
            composition.check_still_gone(before.pruned, found.pruned)
        own = found.reached
        steps_made, taken = spent.steps + own.steps, spent.seconds + own.seconds
        return Arrived(found.pruned, Reached(steps_made, taken, spent.documents + own.documents))

    def stored(self, reference: str, task: str, steps: Steps, seed: int) -> PreTrainedModel:
        """The model after the steps, in the format of the last."""
        return composition.stored(self.after(reference, task, steps, seed).pruned, steps)

    def judged(
        self, reference: str, task: str, steps: Steps, seed: int, executed: PreTrainedModel
    ) -> tuple[record.Quality, record.Recovered]:
        """What the executed model itself still knows, against the unpruned one and against its control."""
        bench = self.recoveries.bench
        data = bench.quality_task(bench.subject(reference, task))
        scores, dense = data.evaluate(executed), bench.score(reference, task, CONTROL)
        arrived = self.after(reference, task, steps, seed)
        control = self._control(reference, task, seed, arrived.reached.steps)
        pruned = [each for each in steps if each.recipe is not None]
        one_shot = bench.score(reference, task, pruned[-1].recipe or CONTROL)
        outcome = Outcome(scores, arrived.pruned.counts, arrived.reached)
        return quality.compare(data, scores, dense), recovered([seed], [outcome], [control], one_shot)

    def _control(self, reference: str, task: str, seed: int, steps: int) -> quality.Scores:
        if not steps:
            return self.recoveries.bench.score(reference, task, CONTROL)
        return self.recoveries.scores(Key(reference, task, CONTROL, Recovery("finetune", steps), seed))


def cell_of(cell: record.Cell, steps: Steps) -> record.Cell:
    """The cell of the last step: its own recipe and format, and what came before.

    Raises what `composition.check` does.
    """
    composition.check(steps)
    pruned = [each for each in steps if each.recipe is not None]
    last = pruned[-1]
    assert last.recipe is not None  # chosen so
    before = composition.said(pruned[:-1])
    return replace(
        cell,
        method=last.recipe.method,
        pattern=last.recipe.pattern,
        scope=last.recipe.scope,
        sparsity=last.recipe.sparsity,
        recovery=str(last.recovery) if last.recovery else None,
        format=steps[-1].format,
        after=before or None,
    )
