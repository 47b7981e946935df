"""A block that is bypassed hands its input on, and computes again when it is restored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparsity.bypass import bypass, is_bypassed, restore
from sparsity.models.architecture import blocks_of
from sparsity.prune import Recipe, prune
from tests import tiny


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**tiny.batches(model, 1)[0].inputs).logits
    return found


def removed_by_hand(model: Any, block: nn.Module) -> None:
    """The block is taken out of the list that holds it, as a reader would do it."""
    for stack in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        if any(member is block for member in stack):
            path = next(name for name, module in model.named_modules() if module is stack)
            model.set_submodule(path, nn.ModuleList([member for member in stack if member is not block]))


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_bypassed_block_is_as_good_as_gone(family: str) -> None:
    model, smaller = tiny.model(family), tiny.model(family)
    for stack in {block.stack for block in blocks_of(model)}:
        place = next(i for i, block in enumerate(blocks_of(model)) if block.stack == stack and block.index == 1)
        bypass(blocks_of(model)[place].module)
    for block in [block for block in blocks_of(smaller) if block.index == 1]:
        removed_by_hand(smaller, block.module)
    assert len(blocks_of(smaller)) < len(blocks_of(model))
    assert torch.equal(logits(model), logits(smaller))
    assert not torch.equal(logits(model), logits(tiny.model(family)))


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_restored_model_computes_what_it_did_before(family: str) -> None:
    model = tiny.model(family)
    before = logits(model)
    hooks = [dict(block.module._forward_hooks) for block in blocks_of(model)]
    for block in blocks_of(model):
        bypass(block.module)
        assert is_bypassed(block.module)
    assert not torch.equal(logits(model), before)
    for block in blocks_of(model):
        restore(block.module)
        assert not is_bypassed(block.module)
    assert torch.equal(logits(model), before)
    assert [dict(block.module._forward_hooks) for block in blocks_of(model)] == hooks


def test_bypassing_twice_is_bypassing_once_and_one_restore_undoes_it() -> None:
    model = tiny.model("gpt2")
    before = logits(model)
    block = blocks_of(model)[1].module
    bypass(block)
    once = logits(model)
    bypass(block)
    assert torch.equal(logits(model), once)
    restore(block)
    assert not is_bypassed(block)
    assert torch.equal(logits(model), before)


def test_restoring_what_was_never_bypassed_changes_nothing_and_other_hooks_stay() -> None:
    block = nn.Linear(2, 2)
    calls: list[int] = []
    block.register_forward_hook(lambda *_: calls.append(1))
    block.register_forward_hook(lambda *_, **__: calls.append(2), with_kwargs=True)
    restore(block)
    bypass(block)
    restore(block)
    block(torch.zeros(1, 2))
    assert calls == [1, 2]


class Block(nn.Module):
    """Gives its hidden states alone, or with more behind them."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, hidden_states: torch.Tensor, scale: float = 2.0) -> Any:
        changed = hidden_states * scale
        return (changed, "weights of attention", "positions") if self.extra else changed


@pytest.mark.parametrize("by_name", [False, True])
def test_what_else_a_block_gives_stays_and_keywords_are_understood(by_name: bool) -> None:
    x = torch.arange(3.0)
    for extra in (False, True):
        block = Block(extra)
        bypass(block)
        given = block(hidden_states=x, scale=5.0) if by_name else block(x, 5.0)
        if extra:
            hidden, *rest = given
            assert rest == ["weights of attention", "positions"]
        else:
            hidden = given
        assert hidden is x


def test_a_workspace_is_restored_by_the_next_recipe() -> None:
    model = tiny.model("bert")
    dense = tiny.model("bert")
    prune(model, Recipe("l1", 0.5, "layers"), dense)
    assert [is_bypassed(block.module) for block in blocks_of(model)].count(True) == 1
    prune(model, Recipe("none", 0.0), dense)
    assert not any(is_bypassed(block.module) for block in blocks_of(model))
    assert torch.equal(logits(model), logits(dense))


def test_exactly_the_blocks_without_weights_are_bypassed() -> None:
    model = tiny.model("t5-gated")
    pruned = prune(model, Recipe("l1", 0.6, "layers"))
    for position, block in enumerate(blocks_of(model)):
        alive = any(m.any() for layer, m in zip(pruned.layers, pruned.masks, strict=True) if layer.block == position)
        assert is_bypassed(block.module) == (not alive)
    assert sum(is_bypassed(block.module) for block in blocks_of(model)) == pruned.groups["layers"][0] == 4
