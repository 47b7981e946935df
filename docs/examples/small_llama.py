"""Trains a small Llama in a few minutes, with no network: a checkpoint, and two long texts of generated reviews.

    python docs/examples/small_llama.py --out small-llama

Six blocks of width 256 with 8 heads, of which 4 each share a key-value head, 6 million parameters. `book.txt` is to be
evaluated, `other.txt` to calibrate with; neither is learnt from. The language is a grammar of reviews, so what such a
model loses by pruning says nothing of a large one.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from sparsity import blueprint, losses, training
from sparsity.data.documents import whole
from sparsity.models import embedded
from sparsity.tasks import reviews
from sparsity.tasks import training as training_documents

POSITIONS, TOGETHER, BATCH = 512, 8, 4
LEARNT_SEED = 21
TEXTS = {"book.txt": (400, embedded.EVALUATION_SEED), "other.txt": (400, embedded.CALIBRATION_SEED)}


def documents() -> Iterator[training_documents.Document]:
    """Several reviews in a row, never the same."""
    fresh = training_documents.fresh_reviews(LEARNT_SEED)
    while True:
        yield " ".join(whole(text) for text, _ in itertools.islice(fresh, TOGETHER)), 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    tokenizer = blueprint.tokenizer_of("gpt2")
    tokenizer.model_max_length = POSITIONS
    config = transformers.LlamaConfig(
        vocab_size=blueprint.VOCABULARY, hidden_size=256, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, intermediate_size=1024, max_position_embeddings=POSITIONS, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    batches = training_documents.of_model("lm", model, tokenizer, "causal", documents(), BATCH, seed=0)
    settings = training.Settings(learning_rate=3e-3, seconds=asked.seconds)
    reached = training.train(model, batches, losses.task_loss, settings, "small Llama")
    asked.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)
    for name, (count, seed) in TEXTS.items():
        text = " ".join(each.text for each in reviews.generate(count, seed))
        (asked.out / name).write_text(text, encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, {reached.steps} steps in {reached.seconds:.0f} s, in {asked.out}")


if __name__ == "__main__":
    main()
