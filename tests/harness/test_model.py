"""A model in memory as lm-eval asks it, held to a loop that knows nothing of batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm-eval is not installed; the extra harness brings it")

from sparsity.errors import Refused
from sparsity.harness import model
from sparsity.models import hub
from sparsity.tasks.batching import IGNORED, Example
from tests.harness import builders


@pytest.fixture(scope="module")
def loaded() -> hub.Loaded:
    return hub.load("gpt2", "lm", torch.float32, torch.device("cpu"))


def request(*arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("any", {}, arguments, 0, metadata=("task", 0, 1))


def log_probabilities(loaded: hub.Loaded, tokens: list[int]) -> tuple[list[float], list[bool]]:
    """Of each token but the first: its log-probability, and whether it was the likeliest."""
    found = torch.log_softmax(loaded.model(torch.tensor([tokens[:-1]])).logits[0].double(), -1)
    values = [float(found[place, token]) for place, token in enumerate(tokens[1:])]
    return values, [int(found[place].argmax()) == token for place, token in enumerate(tokens[1:])]


def test_log_likelihoods_are_those_of_one_text_at_a_time(loaded: hub.Loaded) -> None:
    tokenizer, lm = loaded.tokenizer(), model.of(loaded.model, loaded.tokenizer())
    asked = [(row["text"] + " the", " " + noun) for row in builders.rows(10) for noun in row["choices"]]
    asked.append(("", "the plot was good ."))
    found = lm.loglikelihood([request(*each) for each in asked])
    for (context, continuation), own in zip(asked, found, strict=True):
        whole = tokenizer.encode(context + continuation)
        if not context:
            whole = [lm.prefix_token_id, *whole]
        count = len(tokenizer.encode(context)) or 1
        values, likeliest = log_probabilities(loaded, whole)
        assert own[0] == pytest.approx(sum(values[count - 1 :]), abs=1e-4)
        assert own[1] == all(likeliest[count - 1 :])
    assert lm.cut == 0


def test_a_whole_text_is_predicted_from_its_start(loaded: hub.Loaded) -> None:
    tokenizer, lm = loaded.tokenizer(), model.of(loaded.model, loaded.tokenizer())
    texts = [row["text"] for row in builders.rows(6)]
    expected = [sum(log_probabilities(loaded, [lm.prefix_token_id, *tokenizer.encode(text)])[0]) for text in texts]
    assert lm.loglikelihood_rolling([request(text) for text in texts]) == pytest.approx(expected, abs=1e-3)


def test_a_text_longer_than_the_model_is_predicted_in_windows_and_each_token_once(loaded: hub.Loaded) -> None:
    lm = model.of(loaded.model, loaded.tokenizer())
    text = " ".join(row["text"] for row in builders.rows(30))
    limit = loaded.model.config.n_positions
    assert len(lm.tok_encode(text)) > limit
    (found,) = lm.loglikelihood_rolling([request(text)])
    each = found / len(lm.tok_encode(text))
    assert -4 < each < -0.5


def test_what_is_too_long_loses_its_beginning_and_is_counted(loaded: hub.Loaded) -> None:
    tokenizer, lm = loaded.tokenizer(), model.of(loaded.model, loaded.tokenizer())
    text = " ".join(row["text"] for row in builders.rows(30))
    (found,) = lm.loglikelihood([request(text, " the end")])
    limit = loaded.model.config.n_positions
    whole = tokenizer.encode(text + " the end")[-(limit + 1) :]
    count = len(tokenizer.encode(text + " the end")) - len(tokenizer.encode(text))
    assert found[0] == pytest.approx(sum(log_probabilities(loaded, whole)[0][-count:]), abs=1e-4)
    assert lm.cut == 1


def test_of_a_pair_only_the_continuation_is_predicted() -> None:
    assert model.pair([1, 2], [3, 4], 9) == Example([1, 2, 3], [IGNORED, 3, 4])
    assert model.pair([1, 2, 3], [4], 2) == Example([2, 3], [IGNORED, 4])
    assert model.pair([1], [2, 3, 4, 5], 2) == Example([3, 4], [4, 5])


def test_text_is_written_greedily_up_to_a_stop_or_so_many_tokens(loaded: hub.Loaded) -> None:
    tokenizer, lm = loaded.tokenizer(), model.of(loaded.model, loaded.tokenizer())
    settings = {"until": [" ."], "max_gen_toks": 12, "do_sample": False}
    text = "the plot was not"
    tokens = tokenizer.encode(text)
    for _ in range(12):
        tokens.append(int(loaded.model(torch.tensor([tokens])).logits[0, -1].argmax()))
    expected = str(tokenizer.decode(tokens[len(tokenizer.encode(text)) :]))
    (found,) = lm.generate_until([request(text, settings)])
    assert found == expected.split(" .")[0]
    (short,) = lm.generate_until([request(text, settings | {"until": [], "max_gen_toks": 2})])
    assert tokenizer.encode(short) == tokens[len(tokenizer.encode(text)) :][:2]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"do_sample": True}, "samples its text"), ({"num_beams": 4}, "beams"), ({"max_gen_toks": 10**6}, "1000000")],
)
def test_text_that_cannot_be_the_same_in_every_run_or_is_too_long_is_refused(
    loaded: hub.Loaded, settings: dict[str, Any], told: str
) -> None:
    lm = model.of(loaded.model, loaded.tokenizer())
    with pytest.raises(Refused, match=told):
        lm.generate_until([request("the plot", settings)])


class _Framing:
    """A tokenizer that sets 1 before a text and 2 behind it."""

    def __init__(self, before: list[int], after: list[int]) -> None:
        self.before, self.after = before, after

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        own = [ord(c) for c in text]
        return [*self.before, *own, *self.after] if add_special_tokens else own


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], []), ([1, 3], [2]), ([], [2])])
def test_what_a_tokenizer_sets_before_a_text_is_kept_and_what_it_sets_behind_is_not(
    before: list[int], after: list[int]
) -> None:
    tokenizer: Any = _Framing(before, after)
    assert model.frame(tokenizer) == before
