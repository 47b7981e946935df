"""Batches: every document once, like lengths together, padding that counts for nothing."""

from __future__ import annotations

import torch

from sparsity.tasks.batching import IGNORED, Example, batches, collate, pad


def examples(lengths: list[int]) -> list[Example]:
    return [Example([7] * n, [n]) for n in lengths]


def test_every_document_once_shortest_first_ties_by_index() -> None:
    made = batches(examples([5, 2, 5, 1, 2]), pad_id=0, batch_size=2)
    assert [batch.documents for batch in made] == [[3, 1], [4, 0], [2]]


def test_padding_is_on_the_right_and_masked_out() -> None:
    batch = collate([Example([4, 5], [1, IGNORED]), Example([6], [2])], [0, 1], pad_id=9)
    assert batch.inputs["input_ids"].tolist() == [[4, 5], [6, 9]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch.labels.tolist() == [[1, IGNORED], [2, IGNORED]]
    assert "decoder_input_ids" not in batch.inputs


def test_a_pad_token_inside_a_text_is_not_masked_out() -> None:
    batch = collate([Example([0, 5], [1])], [0], pad_id=0)
    assert batch.inputs["attention_mask"].tolist() == [[1, 1]]


def test_decoder_rows_are_padded_too() -> None:
    batch = collate([Example([4], [1], [2]), Example([4], [1, 1], [2, 3])], [0, 1], pad_id=8)
    assert batch.inputs["decoder_input_ids"].tolist() == [[2, 8], [2, 3]]


def test_moving_keeps_everything() -> None:
    batch = collate([Example([4, 5], [1])], [0], pad_id=0)
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in [*moved.inputs.values(), moved.labels]} == {"meta"}
    assert moved.documents == batch.documents


def test_rows_become_one_rectangle() -> None:
    assert pad([[1], [1, 2, 3]], 0).tolist() == [[1, 0, 0], [1, 2, 3]]


def test_a_batch_has_no_more_positions_than_it_may_padding_included_and_one_row_at_least() -> None:
    made = batches(examples([3, 3, 3, 4, 9, 20]), pad_id=0, batch_size=4, most=12)
    assert [batch.documents for batch in made] == [[0, 1, 2], [3], [4], [5]]
    assert [batch.documents for batch in batches(examples([1] * 5), 0, 4, most=100)] == [[0, 1, 2, 3], [4]]


def test_positions_are_counted_by_the_longer_of_input_and_labels() -> None:
    long = [Example([7], [1] * 6, [2] * 6)] * 3
    assert [len(batch.documents) for batch in batches(long, 0, 8, most=12)] == [2, 1]


def test_rows_belong_to_the_documents_that_they_are_said_to() -> None:
    made = batches(examples([5, 2, 4]), pad_id=0, batch_size=2, documents=[0, 0, 1])
    assert [batch.documents for batch in made] == [[0, 1], [0]]
    assert made[0].labels.tolist() == [[2], [4]]


def test_token_types_of_pairs_are_padded_with_that_of_the_first() -> None:
    batch = collate([Example([4, 5], [1], token_types=[0, 1]), Example([6], [0], token_types=[1])], [0, 1], pad_id=9)
    assert batch.inputs["token_type_ids"].tolist() == [[0, 1], [1, 0]]
    assert "token_type_ids" not in collate(examples([2]), [0], 0).inputs
