"""Quality on the embedded models: what they reached when shipped, floors, paired comparisons."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sparsity.errors import ModelNotLoaded, Refused
from sparsity.models import embedded, hub
from sparsity.models.architecture import architecture_of
from sparsity.prune import Recipe, prune, workspace
from sparsity.tasks import language_modeling, metrics, quality, reviews

FRESH_SEED = 123
CPU = torch.device("cpu")


def task_of(name: str, task: str, count: int, seed: int) -> tuple[hub.Loaded, quality.Task]:
    loaded = hub.load(name, task, torch.float32, CPU)
    objective = architecture_of(name).objective
    return loaded, quality.build(task, loaded.model, loaded.tokenizer(), objective, count, seed)


@pytest.mark.parametrize("task", quality.TASKS)
@pytest.mark.parametrize("name", embedded.NAMES)
def test_the_manifest_tells_the_truth(name: str, task: str) -> None:
    said = embedded.manifest()["reached"][f"{name}/{task}"]
    loaded, data = task_of(name, task, embedded.EVALUATION_DOCUMENTS, embedded.EVALUATION_SEED)
    scores = data.evaluate(loaded.model)
    # Other processors round otherwise: a hundredth of a nat, and three documents of a thousand.
    tolerance = 0.01 if task == "lm" else 0.003
    assert scores.estimate.value == pytest.approx(said[scores.metric], abs=tolerance)
    assert (
        data.floor(scores) == pytest.approx(said["floor"], abs=1e-9) if "floor" in said else data.floor(scores) is None
    )


@pytest.mark.parametrize("task", quality.TASKS)
def test_documents_are_the_same_in_batches_of_any_size(task: str) -> None:
    loaded = hub.load("bart", task, torch.float32, CPU)
    found: dict[int, list[list[int]]] = {}
    scores = {}
    for size in (8, 20, quality.BATCH_SIZE):
        data = quality.build(task, loaded.model, loaded.tokenizer(), "infilling", 44, FRESH_SEED, size)
        counts = [len(batch.documents) for batch in data.batches]
        assert counts == [size] * (44 // size) + [44 % size]
        found[size] = documents(data)
        scores[size] = data.evaluate(loaded.model)
    assert found[8] == found[20] == found[quality.BATCH_SIZE]
    np.testing.assert_allclose(scores[8].numerators, scores[quality.BATCH_SIZE].numerators, rtol=1e-4)


def test_without_a_size_batches_are_as_large_as_evaluation_bears() -> None:
    _, data = task_of("bert", "lm", 200, FRESH_SEED)
    assert [len(batch.documents) for batch in data.batches] == [128, 72]


def documents(data: quality.Task) -> list[list[int]]:
    """The tokens of each document in order, without padding."""
    rows: dict[int, list[int]] = {}
    for batch in data.batches:
        shown = zip(batch.documents, batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
        rows |= {index: tokens[mask.bool()].tolist() for index, tokens, mask in shown}
    return [rows[index] for index in range(len(rows))]


def test_gpt2_stands_above_its_exact_floor_and_near_it() -> None:
    loaded, data = task_of("gpt2", "lm", 500, FRESH_SEED)
    scores = data.evaluate(loaded.model)
    floor = data.floor(scores)
    tokens = float(scores.denominators.sum())
    exact = -math.fsum(r.log_probability for r in reviews.balanced(500, FRESH_SEED)) / tokens
    assert floor == pytest.approx(exact)
    assert exact < scores.estimate.value < exact + 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", embedded.NAMES)
def test_each_classifier_beats_a_bag_of_words_by_two_points(name: str, bag_of_words: Any) -> None:
    texts = [r.text for r in reviews.balanced(4000, FRESH_SEED)]
    labels = np.array([r.label for r in reviews.balanced(4000, FRESH_SEED)])
    baseline = float((bag_of_words(texts) == labels).mean())
    loaded, data = task_of(name, "classification", 4000, FRESH_SEED)
    reached = data.evaluate(loaded.model).estimate.value
    assert reached >= baseline + 0.02, f"{name} got {reached:.4f}, should be 0.02 above the baseline's {baseline:.4f}"


@pytest.fixture(scope="module")
def bag_of_words() -> Any:
    """Logistic regression on counts of 1 to 3 words, given as many documents as the classifiers saw at most."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    from sparsity.train_embedded import RECIPES, TRAINING_SEED

    count = max(recipe.steps * recipe.batch_size for (_, task), recipe in RECIPES.items() if task == "classification")
    training = reviews.generate(count, TRAINING_SEED)
    words = CountVectorizer(ngram_range=(1, 3), token_pattern=r"\S+", min_df=3)
    counts = words.fit_transform([r.text for r in training])
    model = LogisticRegression(C=0.3, max_iter=300).fit(counts, [r.label for r in training])
    return lambda texts: model.predict(words.transform(texts))


def test_comparison_with_dense_is_paired() -> None:
    loaded, data = task_of("gpt2", "classification", 300, FRESH_SEED)
    dense = data.evaluate(loaded.model)
    same = quality.compare(data, dense, dense)
    assert (same.delta, same.delta_stderr, same.verdict) == (0.0, 0.0, None)
    space = workspace(loaded.model)
    prune(space, Recipe("l1", 0.9), loaded.model)
    pruned = data.evaluate(space)
    lost = quality.compare(data, pruned, dense)
    assert lost.delta == pytest.approx(pruned.estimate.value - dense.estimate.value)
    differences = pruned.numerators - dense.numerators
    assert lost.delta_stderr == pytest.approx(differences.std(ddof=1) / math.sqrt(300))
    assert lost.verdict == "lost"
    assert lost.documents == 300


def test_a_perplexity_too_large_for_a_number_is_absent() -> None:
    loaded, data = task_of("gpt2", "lm", 20, FRESH_SEED)
    scores = data.evaluate(loaded.model)
    huge = replace(scores, estimate=scores.estimate._replace(value=1e4))
    assert quality.compare(data, huge, scores).perplexity is None
    found = quality.compare(data, scores, scores).perplexity
    assert found == pytest.approx(math.exp(scores.estimate.value))


def test_a_classifier_of_other_classes_is_refused() -> None:
    loaded = hub.load("bert", "classification", torch.float32, CPU)
    loaded.model.config.id2label = {0: "a", 1: "b", 2: "c"}
    with pytest.raises(Refused, match="2 classes, but the classifier has 3"):
        quality.build("classification", loaded.model, loaded.tokenizer(), "masked", 10, 0)


def classifier(name: str, **config: Any) -> tuple[hub.Loaded, quality.Task]:
    """A classifier whose configuration was changed before its documents were encoded."""
    loaded = hub.load(name, "classification", torch.float32, CPU)
    for key, value in config.items():
        setattr(loaded.model.config, key, value)
    return loaded, quality.build("classification", loaded.model, loaded.tokenizer(), "causal", 200, FRESH_SEED)


@pytest.mark.parametrize("pad", [0, 1])
def test_a_classifier_reads_the_last_word_whatever_the_tokenizer_pads_with(pad: int) -> None:
    """GPT-2's takes the last token that is not its configuration's padding; that of a neighbour would be padding."""
    loaded, _ = classifier("gpt2")
    expected = classifier("gpt2")[1].evaluate(loaded.model).estimate.value
    changed, data = classifier("gpt2", pad_token_id=pad)
    assert data.evaluate(changed.model).estimate.value == expected > 0.9


def test_a_classifier_without_padding_is_refused() -> None:
    with pytest.raises(Refused, match="names no padding token"):
        classifier("gpt2", pad_token_id=None)


def test_a_tokenizer_that_says_more_than_the_model_knows_is_refused() -> None:
    with pytest.raises(ModelNotLoaded, match=r"its tokenizer has \d+ tokens, its config.json says 100"):
        classifier("bert", vocab_size=100)


def test_a_model_without_room_for_a_document_is_refused() -> None:
    with pytest.raises(Refused, match="the model has 2 positions, too few for a document"):
        classifier("bert", max_position_embeddings=2)


def test_nothing_is_kept_of_a_classifier_that_only_guesses() -> None:
    loaded, data = classifier("bert")
    model: Any = loaded.model
    torch.nn.init.zeros_(model.classifier.weight)
    guesses = data.evaluate(loaded.model)
    again = replace(guesses, numerators=guesses.numerators.copy())
    assert guesses.estimate.value == 0.5
    assert quality.compare(data, again, guesses).verdict == "inconclusive"


def test_padding_is_the_tokenizers_for_language_modelling_and_the_configurations_for_a_classifier() -> None:
    loaded, _ = classifier("gpt2", pad_token_id=7)
    special = language_modeling.special_tokens(loaded.tokenizer(), loaded.model)
    assert special.pad != 7
    assert quality.padding("lm", loaded.model, special) == special.pad
    assert quality.padding("classification", loaded.model, special) == 7
    loaded.model.config.pad_token_id = None
    assert quality.padding("lm", loaded.model, special) == special.pad
    with pytest.raises(Refused, match="names no padding token"):
        quality.padding("classification", loaded.model, special)


# -- over several trainings ---------------------------------------------------------------------------------


def of_documents(numerators: list[float], denominators: list[float], metric: str = "mean_nll") -> quality.Scores:
    own, tokens = np.asarray(numerators), np.asarray(denominators)
    return quality.Scores(metric, metrics.ratio(own, tokens), own, tokens)


TOKENS = [10.0, 20.0, 10.0, 40.0]


def test_trainings_are_pooled_document_by_document() -> None:
    one, two = of_documents([20, 40, 20, 80], TOKENS), of_documents([40, 40, 10, 90], TOKENS)
    found = quality.pooled([one, two])
    assert found.metric == "mean_nll"
    assert found.numerators.tolist() == [30, 40, 15, 85]
    assert found.denominators.tolist() == TOKENS
    assert found.estimate.value == pytest.approx((2.0 + 2.25) / 2)  # the mean of both, as they share their tokens
    # By hand: 2.125 nats for each token leave 8.75, -2.5, -6.25 and 0 unexplained.
    spread = math.sqrt((8.75**2 + 2.5**2 + 6.25**2) / 3)
    assert found.estimate.stderr == pytest.approx(spread / (2 * 20))
    assert found.estimate.stderr < two.estimate.stderr


def test_one_training_is_pooled_to_itself_and_more_of_the_same_are_no_more_certain() -> None:
    one = of_documents([20, 44, 10, 90], TOKENS)
    for count in (1, 3):
        found = quality.pooled([one] * count)
        assert found.estimate == pytest.approx(one.estimate)
        assert np.array_equal(found.numerators, one.numerators)


def test_a_difference_is_paired_over_documents() -> None:
    """What all documents have in common is certain, however far the documents themselves are apart."""
    reference = of_documents([10, 90, 30, 110], TOKENS)
    shifted = of_documents([15, 100, 35, 130], TOKENS)
    assert quality.difference(shifted, reference) == pytest.approx((0.5, 0.0))
    assert quality.difference(reference, shifted) == pytest.approx((-0.5, 0.0))
    assert quality.difference(reference, reference) == (0.0, 0.0)
    found = quality.difference(of_documents([15, 100, 35, 110], TOKENS), reference)
    assert found.value == pytest.approx(20 / 80)
    assert found.stderr == pytest.approx(math.sqrt((2.5**2 + 5**2 + 2.5**2 + 10**2) / 3) / (2 * 20))


SURE = {
    "mean_nll": of_documents([20, 40, 20, 80], TOKENS),
    "accuracy": of_documents([1, 1, 1, 1], [1.0] * 4, "accuracy"),
}


@pytest.mark.parametrize(
    ("metric", "value", "stderr", "expected"),
    [
        ("mean_nll", 0.01, 0.005, "kept"),
        ("mean_nll", 0.01, 0.006, "inconclusive"),
        ("mean_nll", 0.5, 0.1, "lost"),
        ("mean_nll", -0.5, 0.1, "kept"),
        ("accuracy", -0.005, 0.002, "kept"),
        ("accuracy", -0.005, 0.003, "inconclusive"),
        ("accuracy", -0.5, 0.1, "lost"),
        ("accuracy", 0.5, 0.1, "kept"),
    ],
)
def test_the_verdict_knows_in_which_direction_a_metric_is_better(
    metric: str, value: float, stderr: float, expected: str
) -> None:
    assert quality.judged(metrics.Estimate(value, stderr), SURE[metric]) == expected


def test_against_what_only_guesses_there_is_no_verdict() -> None:
    half = of_documents([1, 1, 1, 0], [1.0] * 4, "accuracy")  # may as well be a half
    for value in (-0.5, 0.5):
        assert quality.judged(metrics.Estimate(value, 0.01), half) == "inconclusive"
