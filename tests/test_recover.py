"""A recovered model is exactly as sparse as it was pruned, computes the same in every form; the dense one is safe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sparsity
from sparsity import recover, training
from sparsity.bypass import is_bypassed
from sparsity.errors import Refused
from sparsity.execution import in_format
from sparsity.losses import task_loss
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.recover import GradualHold, MaskHold, Recovered, cubic, refusal
from sparsity.recovery import KINDS, parse
from sparsity.tasks.batching import Batch
from sparsity.training import Settings
from sparsity.training_state import START
from tests import tiny
from tests.models.tiny import refusal as refused

SETTINGS = Settings(3e-3, 1, weight_decay=0.1)
STEPS = 24
RECIPES = {
    "unstructured": Recipe("l1", 0.7),
    "global": Recipe("l1", 0.7, scope="global"),
    "mended": Recipe("sparsegpt", 0.7),
    "2:4": Recipe("l1", 0.5, "2:4"),
    "neurons+heads": Recipe("l1", 0.5, "neurons+heads"),
    "layers": Recipe("l1", 0.5, "layers"),
}
GRADUAL = {
    "layer": Recipe("l1", 0.7),
    "global": Recipe("l1", 0.7, scope="global"),
    "row": Recipe("l1", 0.7, scope="row"),
    "erk": Recipe("l1", 0.7, scope="erk"),
    "tiles": Recipe("l1", 0.5, "4x1"),
    "wanda": Recipe("wanda", 0.7),
    "ziplm": Recipe("ziplm", 0.5, "neurons+heads"),
    "one head of four": Recipe("l1", 0.25, "heads"),
    "rounded": Recipe("l1", 0.5, "neurons", multiple=16),
    "layers": Recipe("l1", 0.5, "layers"),
    "shortgpt": Recipe("shortgpt", 0.5, "layers"),
}
families = pytest.mark.parametrize("family", tiny.FAMILIES)
described = pytest.mark.parametrize("family", tiny.DESCRIBED)
trained = pytest.mark.parametrize("kind", ["finetune", "distill"])


def endless(model: Any) -> Iterator[Batch]:
    return itertools.cycle(tiny.batches(model))


def recovered(dense: Any, recipe: Recipe, word: str, **more: Any) -> Recovered:
    return recover.recover(dense, recipe, parse(word), SETTINGS, endless(dense), tiny.batches(dense), **more)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**tiny.batches(model, 1)[0].inputs).logits
    return found


def assert_zeros(pruned: PrunedModel) -> None:
    """What was removed is +0, and all else is not."""
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        gone = layer.weight[~mask]
        assert bool((gone == 0).all()), layer.name
        assert not bool(torch.signbit(gone).any()), layer.name
        assert int((layer.weight != 0).sum()) == int(mask.sum()), layer.name


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps were looked at: after each the moments of what is gone are exactly 0, as its weights are."""
    seen: list[int] = []
    real = training._step

    def step(model: Any, batches: Any, loss: Any, settings: Any, optimizer: Any, hold: Any) -> Any:
        found = real(model, batches, loss, settings, optimizer, hold)
        assert isinstance(hold, MaskHold)
        moments = 0
        for layer, mask in zip(hold.pruned.layers, hold.pruned.masks, strict=True):
            assert bool((layer.weight[~mask] == 0).all()), layer.name
            state = optimizer.state.get(layer.module.weight, {})
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    moment = state[name].t() if layer.transposed else state[name]
                    assert bool((moment[~mask] == 0).all()), (layer.name, name)
                    moments += int(moment[mask].count_nonzero())
        assert moments
        seen.append(1)
        return found

    monkeypatch.setattr(training, "_step", step)
    return seen


@families
@trained
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_what_was_removed_stays_exactly_zero(family: str, kind: str, recipe: Recipe, watched: list[int]) -> None:
    dense = tiny.model(family)
    before, expected = tiny.state(dense), prune(tiny.model(family), recipe, batches=tiny.batches(dense))
    found = recovered(dense, recipe, f"{kind}:5")
    assert_zeros(found.pruned)
    assert len(watched) == found.reached.steps == 5
    assert all(torch.equal(a, b) for a, b in zip(found.pruned.masks, expected.masks, strict=True))
    assert (found.pruned.recipe, found.pruned.counts) == (recipe, expected.counts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert not any(is_bypassed(block.module) for block in blocks_of(dense))
    learnt = [
        not torch.equal(new.weight, old.weight) or not bool(mask.any())
        for new, old, mask in zip(found.pruned.layers, expected.layers, found.pruned.masks, strict=True)
    ]
    assert all(learnt)
    assert not any(module.training for module in found.pruned.model.modules())
    assert not any(parameter.requires_grad for parameter in found.pruned.model.parameters())


@described
@pytest.mark.parametrize("word", ["finetune:3", "distill:3", "gradual-distill:12", "reconstruct"])
def test_every_described_family_can_be_recovered(family: str, word: str) -> None:
    found = recovered(tiny.model(family), Recipe("l1", 0.6), word)
    assert_zeros(found.pruned)


@families
@pytest.mark.parametrize("word", ["finetune:40", "distill:40", "gradual-finetune:40", "gradual-distill:40"])
def test_recovery_wins_something_back(family: str, word: str) -> None:
    dense, recipe = tiny.model(family), Recipe("l1", 0.7)
    one_shot, found = recovered(dense, recipe, "none"), recovered(dense, recipe, word)
    batch = tiny.batches(dense)[0]
    losses = [float(task_loss(each.pruned.model, batch)) for each in (one_shot, found)]
    assert losses[1] < losses[0] - 0.1


@families
def test_a_student_comes_nearer_to_its_teacher_than_a_model_that_is_taught_by_labels_alone(family: str) -> None:
    dense, recipe = tiny.model(family), Recipe("l1", 0.7)
    wanted = logits(dense)
    apart = [
        float((logits(recovered(dense, recipe, f"{kind}:40").pruned.model) - wanted).norm())
        for kind in ("distill", "finetune")
    ]
    assert apart[0] < apart[1]


def test_another_teacher_teaches_something_else() -> None:
    dense, other = tiny.model("bert"), tiny.model("bert", seed=7)
    before = tiny.state(other)
    one, two = (recovered(dense, Recipe("l1", 0.5), "distill:3", teacher=teacher) for teacher in (None, other))
    assert not torch.equal(logits(one.pruned.model), logits(two.pruned.model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_the_control_is_trained_and_loses_nothing() -> None:
    dense = tiny.model("gpt2")
    found = recovered(dense, Recipe("none", 0.0), "finetune:3")
    assert (found.pruned.removed, found.reached.steps) == (0, 3)
    weights = zip(found.pruned.layers, prunable_layers(dense), strict=True)
    assert not any(torch.equal(new.weight, old.weight) for new, old in weights)


@pytest.mark.parametrize("word", ["none", "reconstruct"])
def test_what_does_not_train_needs_no_batch(word: str) -> None:
    dense = tiny.model("bert")
    before = tiny.state(dense)
    found = recover.recover(dense, Recipe("l1", 0.5), parse(word), SETTINGS, iter(()), tiny.batches(dense))
    assert_zeros(found.pruned)
    assert found.reached == START
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


def test_one_shot_is_pruning() -> None:
    found = recovered(tiny.model("bart"), Recipe("l1", 0.5), "none").pruned.model
    expected = prune(tiny.model("bart"), Recipe("l1", 0.5)).model
    assert all(torch.equal(t, expected.state_dict()[name]) for name, t in found.state_dict().items())


def test_reconstruction_without_calibration_is_refused() -> None:
    dense = tiny.model("bert")
    call = lambda: recover.recover(dense, Recipe("l1", 0.5), parse("reconstruct"), SETTINGS, iter(()))  # noqa: E731  # named for its use
    assert "calibration" in refused(Refused, call)


@pytest.mark.parametrize("word", ["none", "reconstruct", "finetune:2"])
def test_a_model_whose_blocks_are_bypassed_already_is_not_pruned_as_if_they_were_there(word: str) -> None:
    dense = prune(tiny.model("bert"), Recipe("l1", 0.5, "layers")).model
    assert "removed from this model already" in refused(Refused, lambda: recovered(dense, Recipe("l1", 0.5), word))


@families
@pytest.mark.parametrize("word", ["distill:4", "gradual-finetune:24", "reconstruct"])
def test_compact_computes_what_the_recovered_model_computes(family: str, word: str) -> None:
    found = recovered(tiny.model(family), Recipe("l1", 0.5, "neurons+heads"), word).pruned
    smaller = in_format(found, "compact")
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in found.model.parameters())
    torch.testing.assert_close(logits(smaller), logits(found.model), rtol=1e-4, atol=1e-5)


@families
def test_compact_drops_layers_that_went_before_training(family: str) -> None:
    found = recovered(tiny.model(family), Recipe("l1", 0.5, "layers"), "distill:4").pruned
    assert any(is_bypassed(block.module) for block in blocks_of(found.model))
    torch.testing.assert_close(logits(in_format(found, "compact")), logits(found.model), rtol=1e-4, atol=1e-5)


@families
@pytest.mark.parametrize("word", ["distill:4", "gradual-distill:24", "reconstruct"])
def test_a_recovered_model_is_saved_and_loaded(family: str, word: str, tmp_path: Path) -> None:
    found = recovered(tiny.model(family), Recipe("l1", 0.6), word).pruned
    sparsity.save(found, tmp_path)
    assert torch.equal(logits(sparsity.load(tmp_path)), logits(found.model))


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "llama"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("word", ["finetune:4", "distill:4", "gradual-distill:12", "reconstruct"])
def test_half_precision_is_trained_in_float32_and_given_back(family: str, dtype: torch.dtype, word: str) -> None:
    dense = tiny.model(family, dtype)
    dtypes = {name: tensor.dtype for name, tensor in [*dense.named_parameters(), *dense.named_buffers()]}
    buffers = {name: tensor.clone() for name, tensor in dense.named_buffers()}
    found = recovered(dense, Recipe("l1", 0.6), word).pruned
    assert {n: t.dtype for n, t in [*found.model.named_parameters(), *found.model.named_buffers()]} == dtypes
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in found.model.named_buffers())
    assert all(bool((layer.weight[~mask] == 0).all()) for layer, mask in zip(found.layers, found.masks, strict=True))
    assert found.removed == prune(tiny.model(family, dtype), Recipe("l1", 0.6)).removed


def test_the_schedule_by_hand() -> None:
    found = [cubic(0.8, done) for done in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([0.0, 0.2168, 0.4625, 0.7, 0.7875, 0.8])
    assert cubic(0.7, 1.0) == 0.7


@given(st.floats(0.0, 0.999), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_schedule_never_falls_and_ends_where_it_should(final: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0.0 <= cubic(final, low) <= cubic(final, high) + 1e-12
    assert cubic(final, high) <= final + 1e-12


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[PrunedModel]:
    """Every pruning of a gradual recovery that was adopted, the first of nothing."""
    found: list[PrunedModel] = []
    real = GradualHold.adopt

    def adopt(self: GradualHold, pruned: PrunedModel) -> None:
        real(self, pruned)
        found.append(pruned)

    monkeypatch.setattr(GradualHold, "adopt", adopt)
    return found


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        pytest.param(family, recipe, id=f"{name}-{family}")
        for turn, (name, recipe) in enumerate(GRADUAL.items())
        for family in ("gpt2", ("bert", "bart")[turn % 2])  # the one that stores its weights transposed, and another
    ],
)
def test_a_gradual_recovery_ends_as_sparse_as_one_shot(
    family: str, recipe: Recipe, events: list[PrunedModel], watched: list[int]
) -> None:
    dense = tiny.model(family)
    before = tiny.state(dense)
    found = recovered(dense, recipe, f"gradual-distill:{STEPS}")
    expected = prune(tiny.model(family), recipe, batches=tiny.batches(dense))
    assert_zeros(found.pruned)
    assert (found.pruned.removed, found.pruned.groups) == (expected.removed, expected.groups)
    assert found.pruned.recipe == recipe
    assert len(watched) == found.reached.steps == STEPS
    assert events[0].removed == 0
    for old, new in itertools.pairwise(events):
        assert new.removed >= old.removed
        for a, b in zip(old.masks, new.masks, strict=True):
            assert not bool((b & ~a).any()), "what is gone stays gone"
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert not any(is_bypassed(block.module) for block in blocks_of(dense))


def test_sparsity_rises_on_the_cubic_schedule(events: list[PrunedModel]) -> None:
    recovered(tiny.model("bert"), Recipe("l1", 0.8), "gradual-finetune:40")
    total = events[0].prunable_parameters
    expected = [cubic(0.8, k / recover.TIMES) for k in range(recover.TIMES + 1)]
    assert [each.removed / total for each in events] == pytest.approx(expected, abs=2e-3)
    assert [each.recipe.sparsity for each in events[1:]] == pytest.approx(expected[1:])


def test_half_of_the_budget_trains_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[tuple[float, int]] = []
    real = GradualHold.advance

    def advance(self: GradualHold, done: float, optimizer: torch.optim.Optimizer) -> None:
        real(self, done, optimizer)
        times.append((done, self.pruned.removed))

    monkeypatch.setattr(GradualHold, "advance", advance)
    found = recovered(tiny.model("bert"), Recipe("l1", 0.8), "gradual-finetune:40")
    assert {removed for done, removed in times if done >= recover.PRUNED_BY} == {found.pruned.removed}
    assert len({removed for done, removed in times}) == recover.TIMES


@pytest.mark.parametrize(
    "word", ["gradual-finetune:1", "gradual-finetune:2", "gradual-distill:3", "gradual-distill:1s"]
)
@pytest.mark.parametrize("recipe", [Recipe("l1", 0.7), Recipe("l1", 0.5, "layers")], ids=str)
def test_however_few_steps_are_made_all_is_pruned_in_the_end(
    word: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    if word.endswith("s"):  # one step, however fast the machine is
        monkeypatch.setattr(training, "progress_of", lambda settings, reached: float(reached.steps))
    found = recovered(tiny.model("bert"), recipe, word)
    assert found.pruned.removed == prune(tiny.model("bert"), recipe).removed
    assert found.pruned.recipe == recipe
    assert_zeros(found.pruned)
    assert not any(module.training for module in found.pruned.model.modules())


@pytest.mark.parametrize("family", ["gpt2", "bart", "llama"])
@pytest.mark.parametrize("method", ["l1", "shortgpt", "taylor"])
def test_removed_blocks_stay_removed_in_deeper_models(family: str, method: str, events: list[PrunedModel]) -> None:
    """Restored to be looked at, a block whose weights are zero still turns its input by its biases and norms."""
    depth = {"gpt2": {"n_layer": 8}, "bart": {"encoder_layers": 8, "decoder_layers": 8}}
    changes: dict[str, Any] = depth.get(family, {"num_hidden_layers": 8})
    dense = tiny.model(family, **changes)
    for parameter in dense.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter) if parameter.dim() == 1 else 0.0)
    found = recovered(dense, Recipe(method, 0.5, "layers"), f"gradual-finetune:{STEPS}")
    assert sum(is_bypassed(block.module) for block in blocks_of(found.pruned.model)) == len(blocks_of(dense)) // 2
    assert len(events) > 3


@families
def test_scores_that_are_all_zero_bring_nothing_back(family: str, events: list[PrunedModel]) -> None:
    """Where no gradient reaches, what stays is worth as little as what is gone."""
    recovered(tiny.model(family), Recipe("taylor", 0.8), f"gradual-distill:{STEPS}")
    for old, new in itertools.pairwise(events):
        assert not any(bool((b & ~a).any()) for a, b in zip(old.masks, new.masks, strict=True))


@pytest.mark.parametrize("kind", ["finetune", "distill", "transfer"])
@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe("random", 0.5), "random"),
        (Recipe("l1", 0.5, "2:4"), "2:4 has one sparsity"),
        (Recipe("sparsegpt", 0.5), "sparsegpt mends"),
        (Recipe("wanda", 0.5, scope="owl"), "owl gives layers other shares"),
    ],
    ids=["random", "2:4", "sparsegpt", "owl"],
)
def test_what_cannot_be_pruned_little_by_little_is_refused_with_the_reason(
    kind: str, recipe: Recipe, reason: str
) -> None:
    word = f"gradual-{kind}:8"
    message = refused(Refused, lambda: recovered(tiny.model("bert"), recipe, word))
    assert reason in message
    assert message == refusal(recipe, parse(word))
    assert refusal(recipe, parse(f"{kind}:8")) is None


def test_nothing_else_is_refused() -> None:
    recoveries = [parse(kind if kind in ("none", "reconstruct") else f"{kind}:8") for kind in KINDS]
    assert [refusal(recipe, each) for recipe in RECIPES.values() for each in recoveries] == [None] * 6 * len(KINDS)
    gradual = [parse(f"gradual-{kind}:8") for kind in ("finetune", "distill", "transfer")]
    assert [refusal(recipe, each) for recipe in GRADUAL.values() for each in gradual] == [None] * 3 * len(GRADUAL)


def test_what_cannot_be_pruned_at_all_is_refused_before_anything_is_trained(watched: list[int]) -> None:
    recipe = Recipe("l1", 0.99, "neurons")  # of 32 neurons none stays
    for word in ("distill:8", "gradual-distill:8"):
        with pytest.raises(Refused, match="leaves none"):
            recovered(tiny.model("bert"), recipe, word)
    refused(Refused, lambda: recovered(tiny.model("bert"), Recipe("l1", 0.1, "heads"), "gradual-distill:8"))
    assert not watched
