"""Own documents as models read them: padding that changes nothing, limits, pairs, classes, and what is left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from sparsity.data.documents import Documents
from sparsity.errors import Refused
from sparsity.models import embedded, hub
from sparsity.tasks import batching, encoding, language_modeling, metrics, quality, text_classification
from tests import tiny
from tests.models.tiny import refusal

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"w{i}" for i in range(tiny.VOCABULARY - 5))]
CLASSIFIERS = ("bert", "roberta", "distilbert", "gpt2", "opt", "llama", "mistral", "qwen2", "bart", "t5")


def tokenizer_of(family: str, **changes: Any) -> Any:
    """A tokenizer of whitespace words, framed as the family frames."""
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = [("<s>", 0), ("</s>", 2)]
    if family in ("bert", "roberta", "distilbert", "bart"):
        core.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=special
        )
    elif family == "t5":
        core.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", special)
    names: dict[str, Any] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    names |= {"model_input_names": ["input_ids", *(["token_type_ids"] if family == "bert" else []), "attention_mask"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names | changes)


def classifier(family: str, **changes: Any) -> Any:
    """A tiny classifier with random weights, in eval mode."""
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(tiny.config(family, **changes))
    return model.eval().requires_grad_(False)


def documents(count: int = 30, used: int = 2, **changes: Any) -> Documents:
    texts = tuple(" ".join(f"w{(i * k) % 50}" for k in range(1, 2 + i % 11)) for i in range(count))
    fields: dict[str, Any] = {"labels": tuple(i % used for i in range(count))} | changes
    return Documents("mine.csv", texts, **fields)


def built(model: Any, tokenizer: Any, own: Documents, name: str = "classification", **rest: Any) -> quality.Task:
    objective = "causal" if name == "lm" else "masked"
    return quality.build(name, model, tokenizer, objective, own, 0, **rest)


# -- padding ------------------------------------------------------------------------------------------------------


def logits_alone(model: Any, tokenizer: Any, own: Documents) -> torch.Tensor:
    """Each document by itself, so without padding."""
    with torch.no_grad():
        rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in own.texts]
        return torch.cat([model(input_ids=row).logits for row in rows])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["own", "end"])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_padded_document_scores_as_it_does_alone(family: str, pad: str, side: str) -> None:
    own, tokenizer = documents(), tokenizer_of(family, padding_side=side)
    changes: dict[str, Any] = {"eos_token_id": 2, "pad_token_id": 1 if pad == "own" else 2}
    if pad == "end" and family in ("bart", "t5"):
        pytest.skip("its classifier reads what stands at the last end token, which then pads")
    model = classifier(family, **changes)
    expected = logits_alone(model, tokenizer, own)
    found = torch.zeros_like(expected)
    for batch in built(model, tokenizer, own, batch_size=7).batches:
        with torch.no_grad():
            found[batch.documents] = model(**batch.inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "mistral", "qwen2"])
def test_a_padded_document_loses_what_it_does_alone(family: str, side: str) -> None:
    own, model, tokenizer = documents(), tiny.model(family), tokenizer_of(family, padding_side=side, pad_token="</s>")
    together, alone = (built(model, tokenizer, own, "lm", batch_size=size).evaluate(model) for size in (16, 1))
    np.testing.assert_allclose(together.numerators, alone.numerators, rtol=1e-4)


def test_a_list_of_end_tokens_is_no_obstacle() -> None:
    own, tokenizer = documents(), tokenizer_of("llama")
    model = classifier("llama", eos_token_id=[2, 3], pad_token_id=2)
    assert built(model, tokenizer, own).evaluate(model).metric == "accuracy"
    language = tiny.model("llama", eos_token_id=[2, 3], pad_token_id=None)
    assert built(language, tokenizer, own, "lm").evaluate(language).estimate.value > 0


def test_a_text_that_names_the_end_token_is_a_text() -> None:
    """BART's classifier wants as many end tokens in each document of a batch."""
    loaded = hub.load("bart", "classification", torch.float32, torch.device("cpu"))
    texts = ("the soup was </s> good .", *(f"the wine was good {i} ." for i in range(20)))
    own = Documents("mine.csv", texts, labels=tuple(i % 2 for i in range(21)))
    tokenizer = loaded.tokenizer()
    task = quality.build("classification", loaded.model, tokenizer, "infilling", own, 0)
    assert len(task.evaluate(loaded.model).numerators) == 21
    plain, named = text_classification.encode(own.texts[1::-1], [0, 1], tokenizer, 96)
    assert plain.input_ids == tokenizer(own.texts[1])["input_ids"]
    assert named.input_ids.count(tokenizer.eos_token_id) == plain.input_ids.count(tokenizer.eos_token_id) == 1


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "said", "expected"),
    [
        ("bert", 10**30, 32),
        ("bert", 20, 20),
        ("roberta", 10**30, 32),  # of a table of 34
        ("t5", 10**30, encoding.MOST_POSITIONS),
        ("t5", 512, 512),
        ("llama", 10**30, 32),
    ],
)
def test_what_is_read_at_once(family: str, said: int, expected: int) -> None:
    assert encoding.token_limit(tiny.model(family), tokenizer_of(family, model_max_length=said)) == expected


def test_a_model_of_many_positions_reads_no_more_than_is_usual() -> None:
    model = tiny.model("llama", max_position_embeddings=131072)
    assert encoding.token_limit(model, tokenizer_of("llama")) == encoding.MOST_POSITIONS


LONG = Documents("mine.csv", (" ".join(["w1 w2 w3"] * 30), "w4 w5", "w6"), labels=(0, 1, 1))


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "bart"])
def test_a_long_text_is_cut_to_be_classified_and_that_is_told(family: str) -> None:
    task = built(classifier(family), tokenizer_of(family), LONG)
    assert max(batch.inputs["input_ids"].shape[1] for batch in task.batches) == 32
    assert task.notes == ("1 of 3 documents of mine.csv are longer than 32 tokens, and were cut",)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_nothing_of_a_long_text_is_thrown_away_by_a_language_model(family: str) -> None:
    model = tiny.model(family)
    task = built(model, tokenizer_of(family), LONG, "lm")
    scores = task.evaluate(model)
    assert scores.denominators.tolist() == [91, 3, 2]  # each token, and the end
    assert task.notes == ()
    assert sorted(d for batch in task.batches for d in batch.documents) == [0, 0, 0, 1, 2]


def test_logits_of_a_batch_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "LOGIT_BYTES", 4 * tiny.VOCABULARY * 40)
    model = tiny.model("gpt2")
    found = built(model, tokenizer_of("gpt2"), documents(), "lm").batches
    assert all(b.labels.numel() <= 40 for b in found)
    assert any(len(b.documents) > 1 for b in found)
    config: Any = tiny.config("gpt2", vocab_size=50257)
    monkeypatch.undo()
    large: Any = type("Model", (), {"config": config})()
    assert 1024 <= encoding.batch_positions("lm", large) < 2048, "GPT-2 reads one full window at a time"


def test_embedded_models_are_evaluated_in_batches_of_the_full_size() -> None:
    for name in embedded.NAMES:
        model = hub.load(name, "lm", torch.float32, torch.device("cpu")).model
        longest = encoding.token_limit(model, tokenizer_of("gpt2")) + 1
        assert encoding.batch_positions("lm", model) >= quality.BATCH_SIZE * longest


# -- pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "bart", "gpt2"])
def test_pairs_are_framed_as_the_tokenizer_frames_them(family: str) -> None:
    own, tokenizer = documents(pairs=tuple(f"w{i} w7" for i in range(30))), tokenizer_of(family)
    task = built(classifier(family), tokenizer, own)
    for batch in task.batches:
        for row, document in enumerate(batch.documents):
            expected = tokenizer(own.texts[document], f"w{document} w7")
            length = len(expected["input_ids"])
            assert batch.inputs["input_ids"][row, :length].tolist() == expected["input_ids"]
            if family == "bert":
                assert batch.inputs["token_type_ids"][row, :length].tolist() == expected["token_type_ids"]
                assert set(expected["token_type_ids"]) == {0, 1}
        assert ("token_type_ids" in batch.inputs) is (family == "bert")
    assert task.evaluate(classifier(family)).metric == "accuracy"


def test_of_a_pair_a_language_model_reads_one_text() -> None:
    own = Documents("mine.csv", ("w1 w2", "w3"), ("w4", "w5 w6"))
    model = tiny.model("gpt2")
    assert built(model, tokenizer_of("gpt2"), own, "lm").evaluate(model).denominators.tolist() == [4, 4]


# -- classes --------------------------------------------------------------------------------------------------------


def test_classes_are_those_of_the_model_whatever_their_order() -> None:
    names = ("contradiction", "entailment", "neutral")
    model = classifier("bert", id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    own = documents(used=3)
    named = built(
        model, tokenizer_of("bert"), documents(labels=own.labels, classes=("entailment", "neutral", "contradiction"))
    )
    assert named.labels == [(1, 2, 0)[label] for label in own.labels or ()]
    assert built(model, tokenizer_of("bert"), own).labels == list(own.labels or ())


def test_a_model_of_other_classes_is_refused() -> None:
    message = refusal(Refused, lambda: built(classifier("bert"), tokenizer_of("bert"), documents(used=3)))
    assert message.startswith("mine.csv has label 2, but the model has 2 classes")
    several = classifier("bert", problem_type="multi_label_classification")
    assert "several classes" in refusal(Refused, lambda: built(several, tokenizer_of("bert"), documents()))


def test_documents_without_classes_or_of_one_are_refused_by_a_classifier_alone() -> None:
    model, tokenizer = classifier("gpt2"), tokenizer_of("gpt2")
    bare = documents(labels=None, unlabelled="mine.csv has no label column")
    assert refusal(Refused, lambda: built(model, tokenizer, bare)).endswith("mine.csv has no label column")
    assert "is of one class" in refusal(Refused, lambda: built(model, tokenizer, documents(used=1)))
    assert built(tiny.model("gpt2"), tokenizer, bare, "lm").labels == []


# -- what is left out, and what a guess scores ----------------------------------------------------------------------


def empty(tokenizer: Any) -> Any:
    """A tokenizer that drops what it does not know."""
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Replace("☃", "")
    return tokenizer


@pytest.mark.parametrize("name", quality.TASKS)
def test_documents_without_a_token_are_left_out_and_counted(name: str) -> None:
    own = Documents("mine.csv", ("☃", "w1 w2", "☃☃", "w3", "w4 w5 w6"), labels=(0, 1, 0, 0, 1))
    model = tiny.model("gpt2") if name == "lm" else classifier("gpt2")
    task = built(model, empty(tokenizer_of("gpt2")), own, name)
    scores = task.evaluate(model)
    assert len(scores.numerators) == len(scores.denominators) == 3
    assert task.notes == ("2 of 5 documents of mine.csv hold no token to judge by, and were left out",)
    if name == "classification":
        assert task.labels == [1, 0, 1]
        assert task.chance == 2 / 3
    only = Documents("mine.csv", ("☃", "☃"), labels=(0, 1))
    message = refusal(Refused, lambda: built(model, empty(tokenizer_of("gpt2")), only, name))
    assert "no document of mine.csv holds a token" in message


def test_a_guess_is_the_most_frequent_class_or_every_token_alike() -> None:
    own = documents(labels=tuple(int(i % 5 == 0) for i in range(30)))
    model = classifier("bert")
    scores = built(model, tokenizer_of("bert"), own).evaluate(model)
    assert scores.chance == 0.8
    assert set(scores.also) == {"macro_f1", "matthews"}
    language = tiny.model("gpt2")
    task = built(language, tokenizer_of("gpt2"), own, "lm")
    assert task.chance == pytest.approx(math.log(tiny.VOCABULARY))
    assert task.evaluate(language).also == {}
    assert task.floor(task.evaluate(language)) is None


def test_generated_reviews_have_their_own_chance_and_floor() -> None:
    loaded = hub.load("gpt2", "lm", torch.float32, torch.device("cpu"))
    task = quality.build("lm", loaded.model, loaded.tokenizer(), "causal", 20, 1)
    assert task.chance is None
    assert task.log_probability is not None


@pytest.mark.parametrize(
    ("value", "chance", "expected"),
    [(0.8, None, True), (0.52, None, False), (0.8, 0.69, True), (0.72, 0.69, False), (0.52, 0.34, True)],
)
def test_a_verdict_needs_a_reference_that_does_better_than_a_guess(
    value: float, chance: float | None, expected: bool
) -> None:
    right = (np.arange(500) < value * 500).astype(np.float64)
    scores = quality.Scores("accuracy", metrics.ratio(right, np.ones(500)), right, np.ones(500), chance)
    assert quality.knows(scores) is expected
    verdict = quality.judged(metrics.Estimate(-0.3, 0.01), scores)
    assert verdict == ("lost" if expected else "inconclusive")


@pytest.mark.parametrize(
    ("value", "chance", "verdict"), [(3.0, 10.0, "lost"), (10.2, 10.0, "inconclusive"), (10.2, None, "lost")]
)
def test_a_language_model_that_guesses_has_nothing_to_lose(value: float, chance: float | None, verdict: str) -> None:
    tokens = np.full(50, 10.0)
    losses = tokens * value + np.arange(50) % 2
    scores = quality.Scores("mean_nll", metrics.ratio(losses, tokens), losses, tokens, chance)
    assert quality.judged(metrics.Estimate(0.5, 0.01), scores) == verdict


# -- calibration ----------------------------------------------------------------------------------------------------


def test_calibration_is_of_so_many_windows_at_most_the_same_for_a_seed() -> None:
    texts = tuple(" ".join(f"w{(i + k) % 50}" for k in range(70)) for i in range(20))
    model, tokenizer, own = tiny.model("gpt2"), tokenizer_of("gpt2"), Documents("mine.csv", texts)

    def rows(count: int, seed: int) -> list[list[int]]:
        batches = quality.calibration("lm", model, tokenizer, "causal", own, count, seed, 8)
        assert all(len(batch.documents) <= 8 for batch in batches)
        assert sorted(d for batch in batches for d in batch.documents) == list(range(min(count, 60)))
        return [row.tolist() for batch in batches for row in batch.inputs["input_ids"]]

    assert rows(12, 0) == rows(12, 0) != rows(12, 1)
    assert len(rows(12, 0)) == 12
    assert len(rows(500, 0)) == 60


def test_encoding_counts_a_text_as_cut_once() -> None:
    encoded = encoding.encode("lm", tiny.model("gpt2"), tokenizer_of("gpt2"), "causal", LONG, 0)
    assert (encoded.cut, encoded.documents) == (1, [0, 0, 0, 1, 2])


def test_cutting_a_few_texts_leaves_the_rest_as_they_are() -> None:
    tokenizer = tokenizer_of("bert")
    found, cut = text_classification.cut(["w1 w2", "w3 " * 30, "w4"], [1, 0, 1], tokenizer, 8)
    assert cut == 1
    assert [len(each.input_ids) for each in found] == [4, 8, 3]
    assert [each.labels for each in found] == [[1], [0], [1]]
    assert isinstance(found[0], batching.Example)


def test_special_tokens_of_a_tokenizer_without_any() -> None:
    tokenizer = tokenizer_of("llama", bos_token=None, eos_token=None, pad_token=None, mask_token=None)
    special = language_modeling.special_tokens(tokenizer, tiny.model("llama"))
    assert (special.start, special.end, special.pad) == (None, None, 0)
    model = tiny.model("llama")
    task = built(model, tokenizer, documents(), "lm")
    assert len(task.evaluate(model).numerators) < 30, "one word alone cannot be predicted"
