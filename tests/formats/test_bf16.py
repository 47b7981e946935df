"""bf16: what `from_pretrained` would have loaded, and a model on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sparsity import pattern as patterns
from sparsity.errors import Refused
from sparsity.execution import CLOSE, in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.measure.memory import resident_bytes
from sparsity.prune import Recipe, prune
from tests import tiny
from tests.formats.test_csr import logits
from tests.models.tiny import refusal

ALREADY = "the model is in bfloat16 already: that is format dense"


def converted(family: str, recipe: Recipe | None = None, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """(masked dense model, the same in bf16)."""
    pruned = prune(tiny.model(family, dtype), recipe or Recipe("l1", 0.5))
    return pruned.model, in_format(pruned, "bf16")


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_is_what_loading_in_bfloat16_gives(family: str, tmp_path: Path) -> None:
    original, model = converted(family)
    original.save_pretrained(tmp_path)
    loaded: Any = getattr(transformers, tiny.CLASSES[family]).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert model.dtype == model.config.dtype == loaded.dtype
    ours, theirs = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, loaded))
    assert {name: tensor.dtype for name, tensor in ours.items()} == {name: each.dtype for name, each in theirs.items()}
    assert torch.equal(logits(model), logits(loaded))


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_is_near_the_masked_dense_model_which_stays_as_it_is(family: str, dtype: torch.dtype) -> None:
    original, model = converted(family, dtype=dtype)
    expected, found = logits(original), logits(model)
    assert found.dtype is torch.bfloat16
    assert 0 < relative_error(found, expected) < CLOSE["bfloat16"]
    for parameter in model.parameters():
        parameter.zero_()
    assert original.config.dtype is not torch.bfloat16
    assert {parameter.dtype for parameter in original.parameters()} == {dtype}
    assert torch.equal(logits(original), expected)


def test_outlives_another_pruning_of_the_workspace() -> None:
    original, model = converted("bert")
    expected = logits(model)
    prune(original, Recipe("l1", 0.9))
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_holds_half_and_ties_stay_tied(family: str) -> None:
    original, model = converted(family)
    assert resident_bytes(model) < 0.52 * resident_bytes(original)
    assert len(list(model.parameters())) == len(list(original.parameters()))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("pattern", patterns.EXAMPLES)
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize(("dtype", "reason"), [("float32", None), ("float16", None), ("bfloat16", ALREADY)])
def test_only_what_is_in_bfloat16_already_is_refused(pattern: str, device: str, dtype: str, reason: str | None) -> None:
    assert FORMATS["bf16"].unsupported(patterns.parse(pattern), dtype, device) == reason


def test_a_model_in_bfloat16_is_refused() -> None:
    assert refusal(Refused, lambda: converted("bert", dtype=torch.bfloat16)) == ALREADY
