"""Which slices of which matrices are a neuron, a head, a layer: golden tables of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers

from sparsity.errors import Refused
from sparsity.groups import GroupSet, Slices, WholeBlocks, groups_of
from sparsity.models.architecture import prunable_layers
from sparsity.models.families import ARCHITECTURES
from tests import tiny
from tests.models.tiny import refusal

Rows = list[list[int]]
WITH_HEADS = [family for family in tiny.DESCRIBED if not family.startswith("t5")]


def sets_of(model: Any, *kinds: str) -> list[GroupSet]:
    return groups_of(model, prunable_layers(model), kinds)


def table(model: Any, each: GroupSet) -> list[tuple[str, str, Rows]]:
    """(the end of a layer's name, rows or columns, members of each group)."""
    assert isinstance(each, Slices)
    layers = prunable_layers(model)
    name = {0: "rows", 1: "columns"}
    return [(layers[part.layer].name, name[part.axis], part.index.tolist()) for part in each.parts]


def runs(count: int, size: int, start: int = 0) -> Rows:
    """Groups of neighbours: `count` of `size`."""
    return [list(range(start + i * size, start + (i + 1) * size)) for i in range(count)]


NEURONS = {
    "bert": ("bert.encoder.layer.1", ("intermediate.dense",), "output.dense"),
    "roberta": ("roberta.encoder.layer.1", ("intermediate.dense",), "output.dense"),
    "distilbert": ("distilbert.transformer.layer.1", ("ffn.lin1",), "ffn.lin2"),
    "gpt2": ("transformer.h.1", ("mlp.c_fc",), "mlp.c_proj"),
    "opt": ("model.decoder.layers.1", ("fc1",), "fc2"),
    "llama": ("model.layers.1", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
    "mistral": ("model.layers.1", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
    "qwen2": ("model.layers.1", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
    "bart": ("model.encoder.layers.1", ("fc1",), "fc2"),
    "t5": ("encoder.block.1", ("layer.1.DenseReluDense.wi",), "layer.1.DenseReluDense.wo"),
    "t5-gated": (
        "encoder.block.1",
        ("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"),
        "layer.1.DenseReluDense.wo",
    ),
}
"""A block of each family, what makes its neurons and what reads them."""


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_neuron_is_a_row_of_what_makes_it_and_a_column_of_what_reads_it(family: str) -> None:
    model = tiny.model(family)
    second = sets_of(model, "neurons")[1]
    block, ups, down = NEURONS[family]
    assert (second.kind, second.name, second.count) == ("neurons", f"{block}, feed-forward", 32)
    singles = runs(32, 1)
    expected = [*((f"{block}.{up}", "rows", singles) for up in ups), (f"{block}.{down}", "columns", singles)]
    assert table(model, second) == expected


def test_the_decoder_of_t5_keeps_its_neurons_behind_a_cross_attention() -> None:
    model = tiny.model("t5")
    last = sets_of(model, "neurons")[-1]
    path = "decoder.block.2.layer.2.DenseReluDense"
    assert table(model, last) == [(f"{path}.wi", "rows", runs(32, 1)), (f"{path}.wo", "columns", runs(32, 1))]


FOUR = runs(4, 4)
HEADS: dict[str, list[tuple[str, list[tuple[str, str, Rows]]]]] = {
    "bert": [
        (
            "bert.encoder.layer.1.attention.self",
            [
                ("bert.encoder.layer.1.attention.self.query", "rows", FOUR),
                ("bert.encoder.layer.1.attention.self.key", "rows", FOUR),
                ("bert.encoder.layer.1.attention.self.value", "rows", FOUR),
                ("bert.encoder.layer.1.attention.output.dense", "columns", FOUR),
            ],
        )
    ],
    "gpt2": [  # query, key and value of a head lie 16 rows apart
        (
            "transformer.h.1.attn",
            [
                (
                    "transformer.h.1.attn.c_attn",
                    "rows",
                    [
                        [0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35],
                        [4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39],
                        [8, 9, 10, 11, 24, 25, 26, 27, 40, 41, 42, 43],
                        [12, 13, 14, 15, 28, 29, 30, 31, 44, 45, 46, 47],
                    ],
                ),
                ("transformer.h.1.attn.c_proj", "columns", FOUR),
            ],
        )
    ],
    "llama": [  # a key-value head goes with the two query heads that share it
        (
            "model.layers.3.self_attn",
            [
                ("model.layers.3.self_attn.q_proj", "rows", [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]]),
                ("model.layers.3.self_attn.k_proj", "rows", [[0, 1, 2, 3], [4, 5, 6, 7]]),
                ("model.layers.3.self_attn.v_proj", "rows", [[0, 1, 2, 3], [4, 5, 6, 7]]),
                (
                    "model.layers.3.self_attn.o_proj",
                    "columns",
                    [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]],
                ),
            ],
        )
    ],
    "bart": [
        (
            f"model.decoder.layers.1.{attention}",
            [
                (f"model.decoder.layers.1.{attention}.q_proj", "rows", FOUR),
                (f"model.decoder.layers.1.{attention}.k_proj", "rows", FOUR),
                (f"model.decoder.layers.1.{attention}.v_proj", "rows", FOUR),
                (f"model.decoder.layers.1.{attention}.out_proj", "columns", FOUR),
            ],
        )
        for attention in ("self_attn", "encoder_attn")
    ],
}
"""The heads of the last block, by hand."""


@pytest.mark.parametrize("family", HEADS)
def test_a_head_is_these_rows_and_columns(family: str) -> None:
    model = tiny.model(family)
    last = sets_of(model, "heads")[-len(HEADS[family]) :]
    assert [(each.name, table(model, each)) for each in last] == HEADS[family]
    assert {each.kind for each in last} == {"heads"}


@pytest.mark.parametrize(
    ("family", "counts"),
    [
        ("bert", [4] * 2),
        ("roberta", [4] * 3),
        ("distilbert", [4] * 3),
        ("gpt2", [4] * 2),
        ("opt", [4] * 4),
        ("llama", [2] * 4),
        ("mistral", [2] * 4),
        ("qwen2", [2] * 4),
        ("bart", [4] * 6),  # two encoder blocks, two decoder blocks of two attentions
    ],
)
def test_every_attention_has_a_set_of_heads(family: str, counts: list[int]) -> None:
    assert [each.count for each in sets_of(tiny.model(family), "heads")] == counts


def test_heads_as_wide_as_the_configuration_says_are_found_by_their_width() -> None:
    """A head of 8 where 16 / 4 would be 4."""
    model = tiny.model("llama", head_dim=8)
    first = sets_of(model, "heads")[0]
    (_, _, query), (_, _, key), _, (_, _, output) = table(model, first)
    assert (query, key, output) == (runs(2, 16), runs(2, 8), runs(2, 16))


def test_one_key_value_head_for_all_is_one_group() -> None:
    model = tiny.model("llama", num_key_value_heads=1)
    assert [each.count for each in sets_of(model, "heads")] == [1] * 4


@pytest.mark.parametrize("family", WITH_HEADS)
@pytest.mark.parametrize("kind", ["neurons", "heads"])
def test_every_group_has_all_rows_that_make_it_and_no_other_groups(family: str, kind: str) -> None:
    """Together the groups of a set cover what they are slices of, each row and column once."""
    model = tiny.model(family)
    layers = prunable_layers(model)
    for each in sets_of(model, kind):
        assert isinstance(each, Slices)
        for part in each.parts:
            assert len(part.index) == each.count
            assert part.index.flatten().sort().values.tolist() == list(
                range(layers[part.layer].weight.shape[part.axis])
            )
        assert (each.reader, each.reader.axis) == (each.parts[-1], 1)


@pytest.mark.parametrize("family", WITH_HEADS)
def test_together_they_come_block_by_block(family: str) -> None:
    model = tiny.model(family)
    layers = prunable_layers(model)
    sets = sets_of(model, "neurons", "heads")
    blocks = [layers[each.reader.layer].block for each in sets if isinstance(each, Slices)]
    assert blocks == sorted(blocks)
    assert {each.kind for each in sets} == {"neurons", "heads"}
    assert len(sets) == len(sets_of(model, "neurons")) + len(sets_of(model, "heads"))


LAYERS = {
    "bert": [("encoder.layer", (0, 1))],
    "roberta": [("encoder.layer", (0, 1, 2))],
    "distilbert": [("transformer.layer", (0, 1, 2))],
    "gpt2": [("h", (0, 1))],
    "opt": [("decoder.layers", (0, 1, 2, 3))],
    "llama": [("layers", (0, 1, 2, 3))],
    "mistral": [("layers", (0, 1, 2, 3))],
    "qwen2": [("layers", (0, 1, 2, 3))],
    "bart": [("encoder.layers", (0, 1)), ("decoder.layers", (2, 3))],
    "t5": [("encoder.block", (1, 2)), ("decoder.block", (4, 5))],  # the first of each stack holds the positions
    "t5-gated": [("encoder.block", (1, 2, 3)), ("decoder.block", (5, 6, 7))],
}
"""The blocks that can go, stack by stack."""


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_layer_is_a_whole_block_and_the_first_of_t5_stays(family: str) -> None:
    model = tiny.model(family)
    layers = prunable_layers(model)
    found = sets_of(model, "layers")
    assert [(each.name, each.blocks) for each in found if isinstance(each, WholeBlocks)] == LAYERS[family]
    for each in found:
        assert isinstance(each, WholeBlocks)
        assert (each.kind, each.count) == ("layers", len(each.blocks))
        for block, members in zip(each.blocks, each.layers, strict=True):
            assert list(members) == [i for i, layer in enumerate(layers) if layer.block == block]


def ones(model: Any) -> list[torch.Tensor]:
    return [torch.ones_like(layer.weight, dtype=torch.bool) for layer in prunable_layers(model)]


def gone(model: Any, masks: Sequence[torch.Tensor]) -> dict[str, tuple[list[int], list[int]]]:
    """Of every layer that lost something: the rows and the columns that are wholly gone."""
    found = {}
    for layer, mask in zip(prunable_layers(model), masks, strict=True):
        if not mask.all():
            whole = [(~mask.any(axis)).nonzero().flatten().tolist() for axis in (1, 0)]
            covered = mask.new_ones(mask.shape)
            covered[whole[0]] = False
            covered[:, whole[1]] = False
            assert torch.equal(covered, mask), f"{layer.name} lost single weights"
            found[layer.name] = (whole[0], whole[1])
    return found


def test_a_head_that_goes_takes_these_slices_of_the_masks() -> None:
    model = tiny.model("gpt2")
    masks = ones(model)
    sets_of(model, "heads")[0].write(masks, torch.tensor([True, False, True, True]))
    assert gone(model, masks) == {
        "transformer.h.0.attn.c_attn": ([4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39], []),
        "transformer.h.0.attn.c_proj": ([], [4, 5, 6, 7]),
    }


def test_a_key_value_head_that_goes_takes_its_query_heads() -> None:
    model = tiny.model("qwen2")
    masks = ones(model)
    sets_of(model, "heads")[1].write(masks, torch.tensor([False, True]))
    path = "model.layers.1.self_attn"
    assert gone(model, masks) == {
        f"{path}.q_proj": (list(range(8)), []),
        f"{path}.k_proj": ([0, 1, 2, 3], []),
        f"{path}.v_proj": ([0, 1, 2, 3], []),
        f"{path}.o_proj": ([], list(range(8))),
    }


def test_a_neuron_that_goes_takes_gate_and_up() -> None:
    model = tiny.model("t5-gated")
    masks = ones(model)
    stays = torch.ones(32, dtype=torch.bool)
    stays[[3, 31]] = False
    sets_of(model, "neurons")[0].write(masks, stays)
    path = "encoder.block.0.layer.1.DenseReluDense"
    assert gone(model, masks) == {
        f"{path}.wi_0": ([3, 31], []),
        f"{path}.wi_1": ([3, 31], []),
        f"{path}.wo": ([], [3, 31]),
    }


def test_a_layer_that_goes_takes_every_matrix_of_its_block() -> None:
    model = tiny.model("t5")
    masks = ones(model)
    sets_of(model, "layers")[1].write(masks, torch.tensor([True, False]))
    for layer, mask in zip(prunable_layers(model), masks, strict=True):
        assert bool(mask.any()) == bool(mask.all()) == (not layer.name.startswith("decoder.block.2.")), layer.name


def test_writing_leaves_alone_what_is_already_gone() -> None:
    model = tiny.model("bert")
    masks = ones(model)
    heads = sets_of(model, "heads")[0]
    heads.write(masks, torch.tensor([False, True, True, True]))
    heads.write(masks, torch.tensor([True, True, True, False]))
    assert gone(model, masks)["bert.encoder.layer.0.attention.self.query"] == ([0, 1, 2, 3, 12, 13, 14, 15], [])


@pytest.mark.parametrize(("family", "kind"), [(f, k) for f in WITH_HEADS for k in ("neurons", "heads", "layers")])
def test_the_score_of_a_group_is_the_sum_over_the_weights_that_go_with_it(family: str, kind: str) -> None:
    model = tiny.model(family, torch.float64)
    layers = prunable_layers(model)

    def sums(layer: int, axis: int) -> torch.Tensor:
        return layers[layer].weight.abs().sum(axis)

    for each in sets_of(model, kind):
        scores = each.score(sums)
        assert scores.shape == (each.count,)
        for i, score in enumerate(scores.tolist()):
            masks, kept = ones(model), torch.ones(each.count, dtype=torch.bool)
            kept[i] = False
            each.write(masks, kept)
            lost = sum(float(layer.weight.abs()[~m].sum()) for layer, m in zip(layers, masks, strict=True))
            assert score == pytest.approx(lost, rel=1e-12), (each.name, i)


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
@pytest.mark.parametrize("kinds", [("heads",), ("neurons", "heads")])
def test_heads_of_t5_are_refused_with_the_reason(family: str, kinds: tuple[str, ...]) -> None:
    message = refusal(Refused, lambda: sets_of(tiny.model(family), *kinds))
    assert message == (
        "no head of encoder.block.0.layer.0.SelfAttention can be removed: its heads share one table of relative "
        "positions with those of all other blocks"
    )


@pytest.mark.parametrize(
    ("family", "changes", "path"),
    [
        ("bert", {"num_hidden_layers": 1}, "encoder.layer"),
        ("bart", {"decoder_layers": 1}, "decoder.layers"),
        ("t5", {"num_layers": 1, "num_decoder_layers": 2}, "encoder.block"),
    ],
)
def test_the_only_block_of_a_stack_cannot_go(family: str, changes: dict[str, Any], path: str) -> None:
    model = tiny.model(family, **changes)
    assert refusal(Refused, lambda: sets_of(model, "layers")) == f"{path} has one block, so none can be removed"
    assert sets_of(model, "neurons")


@pytest.mark.parametrize("kind", ["neurons", "heads", "layers"])
def test_a_family_that_is_not_described_is_refused_with_those_that_are(kind: str) -> None:
    model = transformers.ElectraForMaskedLM(
        transformers.ElectraConfig(
            vocab_size=60, embedding_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32, max_position_embeddings=32,
        )
    )  # fmt: skip
    assert prunable_layers(model)
    assert refusal(Refused, lambda: sets_of(model, kind)) == (
        "where electra models keep their heads and neurons is not described, so none can be removed; described are "
        + ", ".join(ARCHITECTURES)
    )
