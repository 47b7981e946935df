"""What the embedded models are before training: their tokenizers and their configurations.

The tokenizers are built without chance: BERT's vocabulary is the word list itself, since WordPiece
training gives other vocabularies in other processes; byte-level BPE training does not.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from sparsity.models.architecture import architecture_of
from sparsity.tasks.reviews import ReviewGrammar

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY_SEED = 19_999
"""Seed of the reviews that the vocabularies are read off."""
HIDDEN, LAYERS, HEADS, FEED_FORWARD, POSITIONS = 96, 2, 4, 384, 96
VOCABULARY = 1024
INITIAL_STD = {"bert": 0.12, "gpt2": 0.03, "bart": 0.12}
"""Standard deviation of the initial weights; narrow models learn far faster above the usual 0.02."""


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the known words, with single characters for the rest."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    reviews = _texts(5000)
    seen = sorted({word for text in reviews for word in text.split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    pieces += [word for word in seen if word not in pieces]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def bpe_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's and BART's; the same merges for both, framed each in its own way."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<mask>"] if family == "bart" else ["<|endoftext|>", "<pad>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(5000), trainer)
    if family == "gpt2":
        names = {"bos_token": special[0], "eos_token": special[0], "pad_token": "<pad>"}
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names)


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A new tokenizer of the family, always the same."""
    return bert_tokenizer() if family == "bert" else bpe_tokenizer(family)


def _texts(count: int) -> list[str]:
    grammar, source = ReviewGrammar(), random.Random(VOCABULARY_SEED)
    return [grammar.review(source).text for _ in range(count)]


def config_of(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The narrow configuration of a family; no dropout, since no document is seen twice."""
    import transformers

    std = INITIAL_STD[family]
    vocabulary = math.ceil(len(tokenizer) / 8) * 8
    labels: dict[str, Any] = {
        "id2label": {0: "negative", 1: "positive"},
        "label2id": {"negative": 0, "positive": 1},
    }
    if family == "bert":
        return transformers.BertConfig(
            vocab_size=vocabulary, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=FEED_FORWARD, max_position_embeddings=POSITIONS, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id, initializer_range=std, **labels,
        )  # fmt: skip
    if family == "gpt2":
        return transformers.GPT2Config(
            vocab_size=vocabulary, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_inner=FEED_FORWARD,
            n_positions=POSITIONS, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=std,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, **labels,
        )  # fmt: skip
    return transformers.BartConfig(
        vocab_size=vocabulary, d_model=HIDDEN, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=FEED_FORWARD,
        decoder_ffn_dim=FEED_FORWARD, max_position_embeddings=POSITIONS, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, classifier_dropout=0.0, init_std=std, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=None, **labels,
    )  # fmt: skip


def new_model(family: str, task: str, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A freshly initialised model of the family with the task's head."""
    import torch
    import transformers

    torch.manual_seed(seed)
    name = architecture_of(family).auto_class if task == "lm" else "AutoModelForSequenceClassification"
    return getattr(transformers, name).from_config(config)  # type: ignore[no-any-return]  # the class is found by name
