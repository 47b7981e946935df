"""A causal language model in memory as lm-evaluation-harness asks it: log-likelihoods, and text written greedily.

lm-eval's own class for transformers models needs accelerate and moves and ties what it is given; this one takes the
model as it is. Texts are read as the tokenizer does by itself, with what it sets before a text and without what it sets
behind one. What is longer than the model reads loses its beginning, and is counted.

Refuses sampled text, whose chance would be another for every model, and text longer than the model can write.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity.errors import Refused
from sparsity.tasks import encoding, language_modeling
from sparsity.tasks.batching import IGNORED, Batch, Example, batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 32
DELAY = 2.0
"""Seconds after which progress is shown."""
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""By which of these names a task may say how long a text may be; the first counts."""
MOST_WRITTEN = 256
"""Tokens that are written at most where a task does not say; lm-eval's own default."""


class Likelihood(NamedTuple):
    """Of a continuation: its log-probability, nats, and whether each of its tokens was the likeliest."""

    log_probability: float
    greedy: bool


def frame(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the tokenizer by itself sets before a text."""
    bare = list(tokenizer.encode("a", add_special_tokens=False))
    framed = list(tokenizer.encode("a"))
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start]
    return []


def pair(context: Sequence[int], continuation: Sequence[int], limit: int) -> Example:
    """The continuation to be predicted from what stands before; of both together the last `limit` + 1 tokens."""
    whole = [*context, *continuation][-(limit + 1) :]
    predicted = min(len(continuation), len(whole) - 1)
    labels = [IGNORED] * (len(whole) - 1 - predicted) + whole[len(whole) - predicted :]
    return Example(whole[:-1], labels)


def likelihoods(model: PreTrainedModel, examples: Sequence[Example], pad: int) -> list[Likelihood]:
    """One for each example, whatever the batch that it is in. The model must be in eval mode."""
    import torch
    from tqdm import tqdm

    most = encoding.batch_positions("lm", model)
    found: dict[int, Likelihood] = {}
    with (
        torch.inference_mode(),
        tqdm(total=len(examples), desc="log-likelihoods", delay=DELAY, leave=False, file=sys.__stderr__) as progress,
    ):
        for batch in batches(examples, pad, BATCH_SIZE, most=most):
            found |= zip(batch.documents, _batch(model, batch.to(model.device)), strict=True)
            progress.update(len(batch.documents))
    return [found[row] for row in range(len(examples))]


def _batch(model: PreTrainedModel, batch: Batch) -> list[Likelihood]:
    import torch

    logits = model(**batch.inputs).logits.float()  # (B, L, V)
    chosen = batch.labels != IGNORED  # (B, L)
    labels = batch.labels.masked_fill(~chosen, 0)
    token = torch.log_softmax(logits, dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    total = token.double().masked_fill(~chosen, 0.0).sum(1)
    greedy = ((logits.argmax(-1) == labels) | ~chosen).all(1)
    return [Likelihood(a, b) for a, b in zip(total.tolist(), greedy.tolist(), strict=True)]


def written(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: list[int], settings: dict[str, Any], limit: int
) -> str:
    """What the model writes behind a text, token by token the likeliest, up to the first of the stops."""
    import torch

    if settings.get("do_sample") or (settings.get("num_beams") or 1) > 1:
        raise Refused("the task samples its text or searches in beams; only greedy text is the same in every run")
    most = next((int(settings[name]) for name in LENGTHS if settings.get(name)), MOST_WRITTEN)
    if most >= limit:
        raise Refused(f"the task lets {most} tokens be written, but the model reads {limit}")
    asked = settings.get("until") or []
    stops = [stop for stop in ([asked] if isinstance(asked, str) else asked) if stop]
    end = language_modeling.special_tokens(tokenizer, model).end
    shown = torch.tensor([tokens[-(limit - most) :]], device=model.device)
    new: list[int] = []
    text, known = "", None
    with torch.inference_mode():
        for _ in range(most):
            found = model(input_ids=shown, past_key_values=known, use_cache=True)
            known = found.past_key_values
            token = int(found.logits[0, -1].argmax())
            if token == end:
                break
            new.append(token)
            text = str(tokenizer.decode(new, skip_special_tokens=True))
            if any(stop in text for stop in stops):
                break
            shown = torch.tensor([[token]], device=model.device)
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


def of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The model as an `lm_eval.api.model.TemplateLM`. Built here because lm-eval is imported late.

    Its attribute `cut` counts requests that lost their beginning. Raises `Refused` for a tokenizer with which nothing
    can stand before a text.
    """
    from lm_eval import utils
    from lm_eval.api.model import TemplateLM

    special = language_modeling.special_tokens(tokenizer, model)
    first = special.end if special.start is None else special.start
    if first is None:
        raise Refused("the tokenizer has no token that begins or ends a text, so a text's first is not predicted")
    start: int = first
    limit, before = encoding.token_limit(model, tokenizer), frame(tokenizer)

    class InMemory(TemplateLM):  # type: ignore[misc]  # lm-eval ships no types
        cut = 0
        eot_token_id = special.end
        prefix_token_id = start
        tokenizer_name = ""

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            tokens = language_modeling.tokens([string], tokenizer)[0]
            again = not before or tokens[: len(before)] == before or add_special_tokens is False
            return tokens if again else [*before, *tokens]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[Likelihood]:
            return list(super().loglikelihood(requests, disable_tqdm=True))

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[Likelihood]:
            self.cut += sum(len(context) + len(continuation) > limit + 1 for _, context, continuation in requests)
            examples = [pair(context, continuation, limit) for _, context, continuation in requests]
            return likelihoods(model, examples, special.pad)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> list[float]:
            del disable_tqdm
            windows: list[Example] = []
            owners: list[int] = []
            for index, request in enumerate(requests):
                tokens = self.tok_encode(request.args[0])
                rolling = utils.get_rolling_token_windows(tokens, start, limit, 1)
                for context, continuation in map(utils.make_disjoint_window, rolling):
                    windows.append(pair(context, continuation, limit))
                    owners.append(index)
            totals = [0.0] * len(requests)
            for owner, found in zip(owners, likelihoods(model, windows, special.pad), strict=True):
                totals[owner] += found.log_probability
            return totals

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
            del disable_tqdm
            pairs = [(self.tok_encode(context), settings) for context, settings in (r.args for r in requests)]
            return [written(model, tokenizer, tokens or [start], settings, limit) for tokens, settings in pairs]

    return InMemory()
