"""Dense with torch's own activations: the same function, the same weights, other modules."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.models.architecture import blocks_of, described_stacks
from sparsity.prune import Recipe, prune
from tests import tiny


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_it_computes_what_the_masked_dense_model_computes(family: str) -> None:
    model = tiny.model(family)
    pruned = prune(model, Recipe("l1", 0.5), tiny.model(family))
    fused = in_format(pruned, "fused")
    (batch,) = tiny.batches(model, 1)
    with torch.no_grad():
        assert relative_error(fused(**batch.inputs).logits, model(**batch.inputs).logits) < 1e-6
    assert {id(p) for p in fused.parameters()} == {id(p) for p in model.parameters()}


def test_gpt2_gets_torchs_gelu_and_the_given_model_keeps_its_own() -> None:
    model = tiny.model("gpt2")
    fused = in_format(prune(model, Recipe("l1", 0.5), tiny.model("gpt2")), "fused")
    path = described_stacks(model)[0].feed_forward.activation
    own, theirs = (each.get_submodule(f"{blocks_of(each)[0].name}.{path}") for each in (fused, model))
    assert isinstance(own, nn.GELU)
    assert own.approximate == "tanh"
    assert not isinstance(theirs, nn.GELU)


def test_a_family_that_is_not_described_is_refused() -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32
    )
    model = transformers.GPTNeoXForCausalLM(config).eval()
    with pytest.raises(Refused, match="not described"):
        FORMATS["fused"].convert(model, [], [])
