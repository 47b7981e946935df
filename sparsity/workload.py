"""What a model is fed: batch size x sequence length, and the tensors for it.

    8x64             a forward pass over 8 sequences of 64 tokens
    1x16+64          the generation of 64 tokens, one after the other, after prompts of 16
    prefill:1x512    what comes before the first token that is generated: a forward pass over a prompt of 512 tokens
                     that fills the cache of keys and values, with the logits of the last position alone
    decode:1x512     what each further token takes: a forward pass over one token on a cache of 512

The cache of `decode` is filled once, before anything is timed or counted. A step then is what it is in a generation: it
appends its keys and values to the cache, as transformers does by copying, and reads all of it; and it brings the cache
back to its length by a view, so that every step is the same. The cache itself is no part of the step's peak.

Refuses: more tokens than the model has positions; generation, `prefill` and `decode` by a model that cannot, or without
its head.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparsity.errors import BadValue, Refused, one_line
from sparsity.positions import positions_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from sparsity.tasks.batching import Batch


PREFILL, DECODE = "prefill", "decode"
NUMBER = "([1-9][0-9]{0,6})"


@dataclass(frozen=True)
class Workload:
    """Tokens of one forward pass, or of one generation."""

    batch: int
    length: int
    """Of `decode`, of what is in the cache."""
    generated: int = 0
    """Tokens that are generated for each sequence; 0 for a mere forward pass."""
    phase: str = ""
    """`PREFILL` or `DECODE`: one of the two parts that a generation consists of; empty for all else."""

    def __str__(self) -> str:
        size = f"{self.batch}x{self.length}"
        return f"{self.phase}:{size}" if self.phase else size + (f"+{self.generated}" if self.generated else "")

    @property
    def tokens(self) -> int:
        """Of each sequence that the model is given; those that it generates come on top."""
        return self.length + (self.phase == DECODE)


def parse(text: str) -> Workload:
    """`8x64` → batch 8, sequence length 64; `1x16+64` → 64 more tokens are generated; `decode:1x512` → one more is."""
    if match := re.fullmatch(rf"(?:({PREFILL}|{DECODE}):)?{NUMBER}x{NUMBER}", text):
        return Workload(int(match[2]), int(match[3]), phase=match[1] or "")
    if match := re.fullmatch(rf"{NUMBER}x{NUMBER}\+{NUMBER}", text):
        return Workload(int(match[1]), int(match[2]), int(match[3]))
    raise BadValue(
        f"workload {text!r} is not BATCHxLENGTH, such as 8x64, BATCHxLENGTH+GENERATED, such as 1x16+64, "
        f"or one of its parts, such as {PREFILL}:1x512 and {DECODE}:1x512"
    )


def inputs(workload: Workload, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Seeded random tokens on the model's device, every position real.

    `input_ids` and `attention_mask`, (batch, tokens) int64, of `decode` one more than are in its cache; for an
    encoder-decoder also `decoder_input_ids` of the same shape. Raises `Refused` past the model's last position.
    """
    import torch

    config = model.config
    positions = positions_of(model)
    decoded = 1 if config.is_encoder_decoder else workload.length
    if positions is not None and max(workload.tokens, workload.generated and decoded + workload.generated) > positions:
        raise Refused(f"workload {workload} is longer than the model's {positions} positions; choose a shorter one")
    generator = torch.Generator().manual_seed(0)

    def tokens() -> torch.Tensor:
        shape = (workload.batch, workload.tokens)
        return torch.randint(config.vocab_size, shape, generator=generator).to(model.device)

    tensors = {"input_ids": ended(tokens(), config) if config.is_encoder_decoder else tokens()}
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    if config.is_encoder_decoder:
        tensors["decoder_input_ids"] = tokens()
    return tensors


def ended(tokens: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """The tokens with one end each, at the end: an encoder-decoder's classifier reads what it finds there."""
    end = config.eos_token_id
    if not isinstance(end, int) or config.vocab_size < 2:
        return tokens
    tokens[tokens == end] = (end + 1) % config.vocab_size
    tokens[:, -1] = end
    return tokens


def call(workload: Workload, model: PreTrainedModel, head: bool = True) -> Callable[[], torch.Tensor]:
    """What runs the model on a workload, its inputs already on the device, and returns what it computed.

    A forward pass returns the logits, without the head the last hidden states; a generation the tokens, prompt
    included, each the likeliest; its two parts the logits of the last position, (batch, 1, vocabulary). Raises
    `Refused` where a model cannot generate, or would have to without its head.

    Of `decode` this is what fills the cache, by one forward pass over it.
    """
    import torch

    if workload.generated or workload.phase:
        _refuse_no_generation(workload, model, head)
    tensors = inputs(workload, model)
    if workload.generated:
        return _generation(workload, model, tensors)
    if workload.phase:
        return _prefill(workload, model, tensors) if workload.phase == PREFILL else _decode(workload, model, tensors)
    run = model if head else model.base_model

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            found = run(**tensors)
            return found.logits if head else found[0]  # type: ignore[no-any-return]  # transformers leaves outputs untyped

    return forward


def _refuse_no_generation(workload: Workload, model: PreTrainedModel, head: bool) -> None:
    if not model.can_generate():
        raise Refused(f"workload {workload}: a {type(model).__name__} cannot generate; choose one such as 8x64")
    if workload.phase and model.config.is_encoder_decoder:
        what = f"a {type(model).__name__} reads its prompt by an encoder, so it has no {PREFILL} or {DECODE} of its own"
        raise Refused(f"workload {workload}: {what}; choose a whole generation, such as 1x16+64")
    if not head:
        raise Refused(f"workload {workload}: nothing is generated without the head; leave --head at full")


def _generation(
    workload: Workload, model: PreTrainedModel, tensors: dict[str, torch.Tensor]
) -> Callable[[], torch.Tensor]:
    import torch

    prompt = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    settings = {"do_sample": False, "num_beams": 1, "pad_token_id": 0}
    count = {"min_new_tokens": workload.generated, "max_new_tokens": workload.generated}

    def generate() -> torch.Tensor:
        with torch.inference_mode():
            return model.generate(**prompt, **count, **settings)  # type: ignore[no-any-return,operator]  # as above

    return generate


def _prefill(
    workload: Workload, model: PreTrainedModel, tensors: dict[str, torch.Tensor]
) -> Callable[[], torch.Tensor]:
    import torch

    last = _last_alone(model)

    def prefill() -> torch.Tensor:
        with torch.inference_mode():
            found = model(**tensors, **last, use_cache=True)
            _cache_of(found, workload, model)  # it is filled, and goes with the call
            return found.logits[:, -1:]  # type: ignore[no-any-return]  # as above

    return prefill


def _decode(workload: Workload, model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> Callable[[], torch.Tensor]:
    import torch

    last = _last_alone(model)
    with torch.inference_mode():
        cache = _cache_of(model(**tensors, **last, use_cache=True), workload, model)  # with the token of the first step
        try:
            cache.crop(-1)
        except (RuntimeError, ValueError) as error:  # a window that slides, a state that has no length
            raise Refused(f"workload {workload}: its cache cannot be brought back: {one_line(error)}") from None
    step = tensors | {"input_ids": tensors["input_ids"][:, -1:], "past_key_values": cache, "use_cache": True}

    def decode() -> torch.Tensor:
        with torch.inference_mode():
            logits = model(**step, **last).logits
            cache.crop(-1)
            return logits[:, -1:]  # type: ignore[no-any-return]  # as above

    return decode


def _last_alone(model: PreTrainedModel) -> dict[str, int]:
    """The argument by which a model computes no other logits than those of the last position, if it takes one."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(type(model).forward).parameters else {}


def _cache_of(output: Any, workload: Workload, model: PreTrainedModel) -> Any:
    """The keys and values that a forward pass left."""
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise Refused(f"workload {workload}: a {type(model).__name__} keeps no cache of keys and values")
    return cache


def random_batches(model: PreTrainedModel, documents: int, length: int, batch: int) -> list[Batch]:
    """Seeded random documents with random labels, as calibration of a model whose weights are random too.

    Each `length` tokens long, or as long as the model's positions allow.
    """
    import torch

    from sparsity.tasks.batching import Batch

    config = model.config
    shape = (documents, min(length, positions_of(model) or length))
    generator = torch.Generator().manual_seed(1)
    tokens, decoded, labels = (torch.randint(config.vocab_size, shape, generator=generator) for _ in range(3))
    found = []
    for start in range(0, documents, batch):
        part = slice(start, start + batch)
        given = {"input_ids": tokens[part], "attention_mask": torch.ones_like(tokens[part])}
        if config.is_encoder_decoder:
            given["decoder_input_ids"] = decoded[part]
        rows = list(range(*part.indices(documents)))
        found.append(Batch(given, labels[part], rows).to(model.device))
    return found
