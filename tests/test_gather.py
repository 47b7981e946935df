"""Statistics of calibration: sums by hand, padding counts nowhere, pruned blocks are felt, no trace stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from sparsity import gather, watch
from sparsity.calibration import HESSIAN, INFLUENCE, INPUT_NORMS, LayerStatistics
from sparsity.errors import Refused
from sparsity.models.architecture import PrunableLayer, blocks_of, prunable_layers
from sparsity.tasks.batching import IGNORED, Batch
from tests import tiny

KINDS = ("bert", "gpt2", "bart", "llama", "t5")
"""One of each kind: an encoder, a packed decoder, an encoder-decoder, grouped queries, relative positions."""
SHOWN, RESTORED = 9, 7
"""Positions of the encoder and of the decoder: of different length, so that a mask says whose it is."""
LIVELY = 8.0
"""By how much weights are raised, so that blocks do turn their inputs and pruned ones are felt."""

described = pytest.mark.parametrize("family", tiny.DESCRIBED)
kinds = pytest.mark.parametrize("family", KINDS)


def lively(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    model = tiny.model(family, dtype, **changes)
    for layer in prunable_layers(model):
        layer.weight.mul_(LIVELY)
    return model


def padded(model: Any, filler: int = 1, count: int = 3, first: int = 0) -> list[Batch]:
    """Batches of three documents, each padded elsewhere, with `filler` where nothing counts."""
    generator = torch.Generator().manual_seed(5)

    def rows(length: int, ends: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.randint(3, tiny.VOCABULARY, (3, length), generator=generator)
        real = torch.arange(length) < torch.tensor(ends)[:, None]
        return torch.where(real, tokens, filler), real

    found = []
    for i in range(count):
        tokens, real = rows(SHOWN, (SHOWN, 4 + i, 7))
        inputs = {"input_ids": tokens, "attention_mask": real.long()}
        labels = torch.where(real, tokens, IGNORED)
        if model.config.is_encoder_decoder:
            restored, counted = rows(RESTORED, (3 + i, RESTORED, 5))
            inputs["decoder_input_ids"] = restored
            labels = torch.where(counted, restored, IGNORED)
        if i == 0 and first:
            inputs["input_ids"] = tokens.clone()
            inputs["input_ids"][0, 0] = first
        found.append(Batch(inputs, labels, [0, 1, 2]))
    return found


def real_rows(x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """What stands at positions of text, by the length of what was read."""
    rows = x.reshape(-1, x.shape[-1])
    shown = batch.inputs["attention_mask"].bool().reshape(-1)
    counted = (batch.labels != IGNORED).reshape(-1)
    return rows[shown if len(rows) == len(shown) else counted].double()


def captured(model: Any, modules: Sequence[nn.Module], batches: Sequence[Batch]) -> list[torch.Tensor]:
    """What each module reads at positions of text in plain forward passes: (tokens, in) each."""
    read: list[list[torch.Tensor]] = [[] for _ in modules]
    handles = [
        module.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0].clone()))
        for module, kept in zip(modules, read, strict=True)
    ]
    found: list[list[torch.Tensor]] = [[] for _ in modules]
    for batch in batches:
        with torch.no_grad():
            model(**batch.inputs)
        for kept, rows in zip(read, found, strict=True):
            rows.append(real_rows(kept.pop(), batch))
    for handle in handles:
        handle.remove()
    return [torch.cat(rows) for rows in found]


def at_once(model: Any, batches: Sequence[Batch], *needs: str) -> list[LayerStatistics]:
    layers = prunable_layers(model)
    return gather.at_once(model, layers, batches, needs or (INPUT_NORMS,), seeds(layers))


def gradients(model: Any, batches: Sequence[Batch]) -> list[LayerStatistics]:
    layers = prunable_layers(model)
    return gather.gradients(model, layers, batches, seeds(layers))


def in_sequence(model: Any, batches: Sequence[Batch], *needs: str) -> Iterator[list[tuple[int, LayerStatistics]]]:
    layers = prunable_layers(model)
    for step in gather.in_sequence(model, layers, batches, needs or (HESSIAN,), seeds(layers)):
        yield list(step)


def whole_sequence(model: Any, batches: Sequence[Batch], *needs: str) -> list[LayerStatistics]:
    return [statistics for step in in_sequence(model, batches, *needs) for _, statistics in step]


def seeds(layers: Sequence[PrunableLayer]) -> list[tuple[int, int]]:
    return [(7, position) for position in range(len(layers))]


def numbers(statistics: LayerStatistics) -> list[torch.Tensor]:
    """Everything that was gathered of a layer."""
    fields = (statistics.squares, statistics.hessian, statistics.squared_gradients, statistics.saliences)
    influence = [] if statistics.influence is None else [torch.tensor(statistics.influence)]
    return [torch.tensor(statistics.tokens), *influence, *(tensor for tensor in fields if tensor is not None)]


WAYS: dict[str, Any] = {
    "at once": lambda model, batches: at_once(model, batches, INPUT_NORMS, INFLUENCE),
    "in sequence": lambda model, batches: whole_sequence(model, batches),
    "gradients": gradients,
}
ways = pytest.mark.parametrize("way", WAYS)


def close(found: torch.Tensor | None, expected: torch.Tensor, relative: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=relative, atol=relative * float(expected.abs().max()))


@described
def test_at_once_sums_the_squares_of_what_real_tokens_give_each_layer(family: str) -> None:
    model = lively(family)
    batches, layers = padded(model), prunable_layers(model)
    read = captured(model, [layer.module for layer in layers], batches)
    for position, (statistics, x) in enumerate(zip(at_once(model, batches), read, strict=True)):
        close(statistics.squares, x.square().sum(0))
        close(statistics.input_norms, x.norm(dim=0))
        assert statistics.tokens == len(x)
        assert statistics.seed == (7, position)
        assert statistics.hessian is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_sums_of_half_precision_are_float64_and_lose_nothing_more(dtype: torch.dtype) -> None:
    model = tiny.model("bert", dtype)
    model.bert.embeddings.LayerNorm.weight.mul_(200)  # squares beyond what float16 holds
    batches, layers = padded(model), prunable_layers(model)
    read = captured(model, [layer.module for layer in layers], batches)
    for statistics, x in zip(at_once(model, batches), read, strict=True):
        assert statistics.squares is not None
        assert statistics.squares.dtype == torch.float64
        close(statistics.squares, x.square().sum(0), 1e-5)
    for statistics, x in zip(whole_sequence(model, batches), read, strict=True):
        assert statistics.hessian is not None
        assert statistics.hessian.dtype == torch.float64
        close(statistics.hessian, x.t() @ x, 2e-2)  # of a batch's own matrix product, in the model's precision before


@kinds
def test_influence_is_one_minus_the_mean_cosine_of_a_blocks_input_and_output(family: str) -> None:
    model = lively(family)
    batches, blocks, layers = padded(model), blocks_of(model), prunable_layers(model)
    cosines: list[list[torch.Tensor]] = [[] for _ in blocks]
    current: list[Batch] = []

    def see(index: int, args: Any, kwargs: Any, output: Any) -> None:
        before = real_rows(args[0] if args else kwargs["hidden_states"], current[-1])
        after = real_rows(output[0] if isinstance(output, tuple) else output, current[-1])
        cosines[index].append((before * after).sum(1) / before.norm(dim=1) / after.norm(dim=1))

    handles = [
        block.module.register_forward_hook(lambda _, a, k, out, i=i: see(i, a, k, out), with_kwargs=True)
        for i, block in enumerate(blocks)
    ]
    for batch in batches:
        current.append(batch)
        model(**batch.inputs)
    for handle in handles:
        handle.remove()
    expected = [1 - float(torch.cat(of_block).mean()) for of_block in cosines]
    assert max(expected) - min(expected) > 1e-3  # there is something to tell apart
    for statistics, layer in zip(at_once(model, batches, INFLUENCE), layers, strict=True):
        assert statistics.influence == pytest.approx(expected[layer.block], abs=1e-12)
    assert all(statistics.influence is None for statistics in at_once(model, batches, INPUT_NORMS))


@ways
@kinds
def test_what_stands_at_padded_positions_counts_nowhere(family: str, way: str) -> None:
    model = lively(family)
    gathered = WAYS[way]
    one, other = gathered(model, padded(model, filler=1)), gathered(model, padded(model, filler=17))
    for a, b in zip(one, other, strict=True):
        for this, that in zip(numbers(a), numbers(b), strict=True):
            close(this, that, 1e-12)
    changed = gathered(model, padded(model, first=17))  # and a real position does count
    assert not all(map(torch.equal, numbers(one[0]), numbers(changed[0])))


def groups_that_share(found: Sequence[LayerStatistics], names: Sequence[str]) -> list[set[str]]:
    """Names of the layers that hold one and the same tensor, where more than one does."""
    by_tensor: dict[int, set[str]] = {}
    for statistics, name in zip(found, names, strict=True):
        tensor = statistics.squares if statistics.hessian is None else statistics.hessian
        by_tensor.setdefault(id(tensor), set()).add(name)
    return [together for together in by_tensor.values() if len(together) > 1]


@pytest.mark.parametrize(
    ("family", "shared"),
    [
        ("bert", [{f"{i}.attention.self.{n}" for n in ("query", "key", "value")} for i in range(2)]),
        (
            "llama",
            [
                group
                for i in range(4)
                for group in ({f"{i}.self_attn.{n}_proj" for n in "qkv"}, {f"{i}.mlp.gate_proj", f"{i}.mlp.up_proj"})
            ],
        ),
        (
            "bart",
            [{f"encoder.layers.{i}.self_attn.{n}_proj" for n in "qkv"} for i in range(2)]
            + [{f"decoder.layers.{i}.self_attn.{n}_proj" for n in "qkv"} for i in range(2)]
            + [{f"decoder.layers.{i}.encoder_attn.{n}_proj" for i in range(2) for n in "kv"}],
        ),
        ("gpt2", []),
    ],
    ids=["bert", "llama", "bart", "gpt2"],
)
def test_layers_that_read_one_tensor_share_one_sum(family: str, shared: list[set[str]]) -> None:
    model = lively(family)
    paths = [layer.name for layer in prunable_layers(model)]
    stem = {"bert": "bert.encoder.layer.", "llama": "model.layers.", "bart": "model.", "gpt2": "transformer.h."}[family]
    found = groups_that_share(at_once(model, padded(model)), [path.removeprefix(stem) for path in paths])
    assert sorted(map(sorted, found)) == sorted(map(sorted, shared))


def test_query_key_and_value_share_one_hessian_in_sequence() -> None:
    model = lively("bert")
    names = [layer.name.rpartition(".")[2] + str(layer.block) for layer in prunable_layers(model)]
    found = groups_that_share(whole_sequence(model, padded(model)), names)
    assert sorted(map(sorted, found)) == [["key0", "query0", "value0"], ["key1", "query1", "value1"]]


def prune_somehow(layer: PrunableLayer) -> None:
    """Takes out two thirds of the weights, and turns the rest around as a method that mends might."""
    layer.weight.reshape(-1)[::3] *= -1 if not layer.transposed else 1
    layer.weight[:, ::2] = 0
    layer.weight[1::3] *= 0.5


@described
def test_in_sequence_a_blocks_statistics_are_those_behind_the_pruned_blocks_before_it(family: str) -> None:
    model = lively(family)
    batches, layers, blocks = padded(model), prunable_layers(model), blocks_of(model)
    dense = [statistics.input_norms.square() for statistics in at_once(model, batches)]
    visited: list[int] = []
    for step in in_sequence(model, batches):
        read = captured(model, [layers[i].module for i, _ in step], batches)  # of the model pruned so far
        for (i, statistics), x in zip(step, read, strict=True):
            assert statistics.seed == (7, i)
            assert statistics.tokens == len(x)
            close(statistics.hessian, x.t() @ x)
            close(statistics.squares, x.square().sum(0))
            if blocks[layers[i].block].index:  # else this would hold for a model that nobody prunes
                assert not torch.allclose(x.square().sum(0), dense[i], rtol=1e-3)
        for i, _ in step:
            prune_somehow(layers[i])
        visited += [i for i, _ in step]
        assert len({layers[i].block for i, _ in step}) == 1
    assert visited == list(range(len(layers)))


def test_in_sequence_later_blocks_are_run_for_their_statistics_and_their_output_alone() -> None:
    model = lively("llama")
    batches, layers = padded(model), prunable_layers(model)
    calls: list[int] = []
    for layer in layers[:: len(layers) // 4]:  # the first matrix of each block
        layer.module.register_forward_pre_hook(lambda _, __, block=layer.block: calls.append(block))
    whole_sequence(model, batches)
    assert [calls.count(block) // len(batches) for block in range(4)] == [2, 2, 2, 1]


@kinds
def test_in_sequence_norms_need_no_hessian_and_are_its_diagonal(family: str) -> None:
    model = lively(family)
    batches = padded(model)
    with_hessian = whole_sequence(model, batches, HESSIAN)
    norms_alone = whole_sequence(model, batches, INPUT_NORMS)
    for one, other, plain in zip(with_hessian, norms_alone, at_once(model, batches), strict=True):
        assert other.hessian is None
        assert one.hessian is not None
        assert one.squares is not None
        assert torch.equal(one.squares, one.hessian.diagonal())
        assert other.squares is not None
        close(one.squares, other.squares)
        close(plain.squares, other.squares)  # when nothing is pruned, one pass tells the same


@pytest.mark.parametrize(("together", "strip"), [(1, 512), (30, 5), (2048, 1), (2048, 16), (30, 7)])
def test_how_sums_are_cut_changes_nothing(together: int, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TOGETHER", together)
    monkeypatch.setattr(watch, "STRIP", strip)
    model = lively("bart")
    batches, layers = padded(model), prunable_layers(model)
    read = captured(model, [layer.module for layer in layers], batches)
    for once, sequence, x in zip(at_once(model, batches), whole_sequence(model, batches), read, strict=True):
        close(once.squares, x.square().sum(0))
        close(sequence.hessian, x.t() @ x)
        assert sequence.hessian is not None
        assert torch.equal(sequence.hessian, sequence.hessian.t())


def by_hand(model: Any, weights: Sequence[torch.Tensor], batch: Batch) -> tuple[torch.Tensor, ...]:
    """Gradients of the mean negative log-likelihood of the labels that count."""
    with torch.enable_grad():
        logits = model(**batch.inputs).logits
        logits = logits if logits.dim() == 3 else logits[:, None]
        log_likelihoods = [
            logits[row, place].log_softmax(-1)[batch.labels[row, place]]
            for row, place in (batch.labels != IGNORED).nonzero().tolist()
        ]
        return torch.autograd.grad(-sum(log_likelihoods) / len(log_likelihoods), weights)


def classifier() -> Any:
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(tiny.config("bert")).double().eval().requires_grad_(False)


def labelled(batches: Sequence[Batch]) -> list[Batch]:
    """The same documents, each of a class."""
    return [Batch(batch.inputs, torch.tensor([[0], [1], [1]]), batch.documents) for batch in batches]


@pytest.mark.parametrize("family", [*KINDS, "classifier"])
def test_gradients_are_those_of_autograd_for_each_batch(family: str) -> None:
    model = classifier() if family == "classifier" else lively(family)
    batches = labelled(padded(model)) if family == "classifier" else padded(model)
    layers = prunable_layers(model)
    weights: list[Any] = [layer.module.weight for layer in layers]
    found = gradients(model, batches)
    for weight in weights:
        weight.requires_grad_(True)
    expected = [by_hand(model, weights, batch) for batch in batches]
    for i, (layer, statistics) in enumerate(zip(layers, found, strict=True)):
        own = torch.stack([of_batch[i].t() if layer.transposed else of_batch[i] for of_batch in expected])
        close(statistics.squared_gradients, own.square().mean(0), 1e-4)  # the loss is taken in float32
        close(statistics.saliences, (own * layer.weight).sum(1), 1e-4)
        assert statistics.seed == (7, i)
        assert statistics.tokens == sum(int((batch.labels != IGNORED).sum()) for batch in batches)
        assert weights[i].grad is None


def test_squared_gradients_of_half_precision_do_not_vanish() -> None:
    """Squares of ordinary gradients lie below what float16 can hold."""
    single, half = tiny.model("bert"), tiny.model("bert", torch.float16)
    batches = padded(single)
    for layer, one, other in zip(
        prunable_layers(single), gradients(single, batches), gradients(half, batches), strict=True
    ):
        if layer.name.endswith("output.dense"):  # whose gradients themselves half precision does hold
            assert one.squared_gradients is not None
            assert other.squared_gradients is not None
            close(other.squared_gradients.float(), one.squared_gradients, 0.05)


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_gradients_restore_who_asked_for_one(fails: bool) -> None:
    model = tiny.model("bert")
    layers = prunable_layers(model)
    for layer in layers[::2]:
        layer.module.weight.requires_grad_(True)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    batches = padded(model)
    if fails:
        batches[1].inputs["input_ids"][0, 0] = tiny.VOCABULARY  # no such token
        with pytest.raises(IndexError):
            gradients(model, batches)
    else:
        gradients(model, batches)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert len(set(before.values())) == 2
    assert all(parameter.grad is None for parameter in model.parameters())


def traces(model: Any) -> dict[str, Any]:
    """What a gathering could leave behind in the modules."""
    left: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._forward_hooks_with_kwargs)]
        if any(hooks) or "forward" in vars(module):
            left[name] = (hooks, "forward" in vars(module))
    return left


@ways
@kinds
def test_nothing_is_left_behind_in_the_model(family: str, way: str) -> None:
    model = lively(family)
    batches, before = padded(model), tiny.state(model)
    with torch.no_grad():
        logits = model(**batches[0].inputs).logits
    WAYS[way](model, batches)
    assert traces(model) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(**batches[0].inputs).logits, logits)


class BrokenError(Exception):
    pass


@ways
@kinds
@pytest.mark.parametrize("place", [0, -1], ids=["first block", "last block"])
def test_nothing_is_left_behind_after_an_error(family: str, way: str, place: int) -> None:
    model = lively(family)
    block = range(len(blocks_of(model)))[place]
    module: Any = next(layer for layer in prunable_layers(model) if layer.block == block).module

    def broken(*_: Any) -> None:
        raise BrokenError

    module.forward = broken  # as on a device that is full
    with pytest.raises(BrokenError):
        WAYS[way](model, padded(model))
    del module.forward
    assert traces(model) == {}


@kinds
def test_nothing_is_left_behind_when_the_sequence_is_given_up(family: str) -> None:
    model = lively(family)
    steps = in_sequence(model, padded(model))
    next(steps)
    assert traces(model) == {}  # between two blocks the caller may run the model
    steps.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert traces(model) == {}


@ways
@kinds
def test_batches_are_not_changed(family: str, way: str) -> None:
    model = lively(family)
    batches, same = padded(model), padded(model)
    WAYS[way](model, batches)
    for one, other in zip(batches, same, strict=True):
        assert one.inputs.keys() == other.inputs.keys()
        assert all(torch.equal(tensor, other.inputs[name]) for name, tensor in one.inputs.items())
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("way", ["at once", "in sequence"])
@pytest.mark.parametrize("family", ["gpt2", "bart", "llama", "t5", "opt"])
def test_no_cache_is_filled(family: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(family)
    model.config.use_cache = True
    filled: list[int] = []
    own = transformers.Cache.update

    def update(*args: Any, **kwargs: Any) -> Any:
        filled.append(1)
        return own(*args, **kwargs)

    monkeypatch.setattr(transformers.Cache, "update", update)
    model(**padded(model)[0].inputs)
    assert filled  # of itself the model does fill one
    filled.clear()
    WAYS[way](model, padded(model))
    assert not filled


@kinds
def test_passes_run_every_block_once_and_not_the_head(family: str) -> None:
    model = lively(family)
    blocks = [block.module for block in blocks_of(model)]
    calls = {id(module): 0 for module in [*blocks, model.get_output_embeddings()]}

    def count(module: nn.Module, *_: Any) -> None:
        calls[id(module)] += 1

    for module in [*blocks, model.get_output_embeddings()]:
        module.register_forward_pre_hook(count)
    hooks = traces(model)
    gather.passes(model, padded(model))
    assert list(calls.values()) == [3] * len(blocks) + [0]
    assert traces(model) == hooks


def test_an_encoder_decoder_that_is_not_described_is_refused() -> None:
    config = transformers.PegasusConfig(
        vocab_size=tiny.VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
    )  # fmt: skip
    with pytest.raises(Refused, match="which layers of a pegasus model read the encoder is not described"):
        gather.check(transformers.PegasusForConditionalGeneration(config))


@described
def test_described_families_pass_the_check(family: str) -> None:
    gather.check(tiny.model(family))


def test_a_decoder_that_is_not_described_has_no_encoder_to_guess_and_is_gathered() -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.GPTNeoXForCausalLM(config).double().eval().requires_grad_(False)
    gather.check(model)
    batches, layers = padded(model), prunable_layers(model)
    read = captured(model, [layer.module for layer in layers], batches)
    for found in (at_once(model, batches), whole_sequence(model, batches)):
        for statistics, x in zip(found, read, strict=True):
            close(statistics.squares, x.square().sum(0))


@pytest.mark.parametrize("way", ["at once", "in sequence", "gradients"])
def test_a_layer_that_no_batch_reaches_is_refused_by_name(way: str) -> None:
    model = tiny.model("bert")
    model.bert.unused = nn.Linear(16, 16)
    layers = [*prunable_layers(model), PrunableLayer("bert.unused", model.bert.unused, transposed=False, block=1)]
    gathering: dict[str, Callable[[], object]] = {
        "at once": lambda: gather.at_once(model, layers, padded(model), (INPUT_NORMS,), seeds(layers)),
        "in sequence": lambda: list(gather.in_sequence(model, layers, padded(model), (HESSIAN,), seeds(layers))),
        "gradients": lambda: gather.gradients(model, layers, padded(model), seeds(layers)),
    }
    with pytest.raises(Refused, match=r"no calibration batch reaches bert\.unused"):
        gathering[way]()
    assert traces(model) == {}


@pytest.mark.parametrize("shape", [(3, 4, 5), (12, 5)], ids=["by document", "flat"])
def test_real_tokens_are_the_rows_that_the_mask_names(shape: tuple[int, ...]) -> None:
    x = torch.arange(60.0).reshape(shape)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2, 3] = True
    expected = torch.stack([torch.arange(5.0, 10.0), torch.arange(55.0, 60.0)])
    assert torch.equal(watch.real_tokens(x, mask, "a layer"), expected)


def test_a_layer_that_reads_other_positions_than_the_batch_has_is_refused_by_name() -> None:
    with pytest.raises(
        Refused, match=r"h\.3\.pooled reads 3 positions where the batch has 12, so it is not calibrated"
    ):
        watch.real_tokens(torch.ones(3, 5), torch.ones(3, 4, dtype=torch.bool), "h.3.pooled")


def test_padding_of_a_decoder_is_where_nothing_is_to_be_predicted() -> None:
    batch = padded(tiny.model("bart"))[1]
    masks = watch.token_masks(batch)
    assert masks["own"].tolist() == [[i < end for i in range(SHOWN)] for end in (SHOWN, 5, 7)]
    assert masks["decoder"].tolist() == [[i < end for i in range(RESTORED)] for end in (4, RESTORED, 5)]
    alone = watch.token_masks(labelled(padded(tiny.model("bert")))[0])  # of classes, which say nothing of positions
    assert torch.equal(alone["decoder"], alone["own"])


def test_gathering_says_nothing_it_was_not_asked_for() -> None:
    model = tiny.model("gpt2")
    for statistics in [*at_once(model, padded(model)), *whole_sequence(model, padded(model))]:
        assert statistics.squared_gradients is None
        assert statistics.saliences is None
        assert statistics.influence is None
