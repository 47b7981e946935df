"""Scores → boolean masks, True = kept, with exact counts.

The one question here: *which of these scores are the highest?* The answer is exact for any number
of matrices that compete together (one for scope `layer`, all of a model for scope `global`), needs
neither a sort nor a copy of the scores, and breaks ties by index: of equal scores the earlier
stays, matrices in the order given. Where scores have no ties the masks are those of
`torch.nn.utils.prune.l1_unstructured` and `global_unstructured`.

How: floating-point numbers of one sign are ordered as their bits are, so the k-th highest is found
digit by digit, 16 bits each, by counting how often each digit occurs (radix selection; MSD radix
sort's selection step). Two counting passes settle float32, one settles bfloat16 and float16, four
float64. Work goes chunk by chunk, so memory beyond the masks is a few megabytes.

Refuses: scores that are not finite, and counts outside what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sparsity.errors import BadValue

if TYPE_CHECKING:
    import torch

Scores = Callable[[], "torch.Tensor"]
"""Gives one matrix of scores. Called once per pass, so that no pass needs all scores at once."""

CHUNK = 1 << 18
"""Scores looked at together: small enough to stay in cache, large enough to hide Python."""
DIGIT_BITS = 16


def pruned_count(sparsity: float, total: int) -> int:
    """How many of `total` weights a sparsity in [0, 1) removes: rounded as torch rounds, half to even."""
    if not 0.0 <= sparsity < 1.0:
        raise BadValue(f"sparsity {sparsity} is outside [0, 1): it is the fraction of prunable weights removed")
    return round(sparsity * total)


def keep_highest(scores: Sequence[Scores], keep: int) -> list[torch.Tensor]:
    """Masks that together keep exactly the `keep` highest of all scores.

    Args:
        scores: one source per matrix; each call must give the same values. Any floating dtype.
        keep: how many to keep, 0 … number of scores.

    Returns:
        One boolean mask per matrix, of its shape, True = kept.
    """
    import torch

    threshold, ties = _threshold(scores, keep)
    masks = []
    for source in scores:
        score = source()
        mask = torch.empty(score.numel(), dtype=torch.bool, device=score.device)
        for start, keys in _keys(score):
            part = mask[start : start + keys.numel()]
            torch.gt(keys, threshold, out=part)
            equal = keys == threshold
            here = int(equal.sum())
            if here:
                wanted = min(here, ties)
                part |= equal if wanted == here else equal & (equal.cumsum(0) <= wanted)
                ties -= wanted
        masks.append(mask.view(score.shape))
    return masks


def _threshold(scores: Sequence[Scores], keep: int) -> tuple[int, int]:
    """(the key of the lowest kept score, how many scores of exactly that key are kept)."""
    prefix, wanted, low_bits = 0, keep, 0
    for first in (True, False, False, False):
        counts, bits = _count_digits(scores, prefix, low_bits, first)
        if first:
            total = int(counts.sum())
            if not 0 <= keep <= total:
                raise BadValue(f"cannot keep {keep} of {total} scores")
            if keep == 0:
                return (1 << (bits - 1)) - 1, 0  # above every finite key
            low_bits = bits
        low_bits -= DIGIT_BITS
        above = counts.flip(0).cumsum(0).flip(0)  # (digits,) how many have this digit or a higher one
        digit = int((above >= wanted).nonzero().max())
        wanted -= int(above[digit]) - int(counts[digit])
        signed = digit - (1 << (DIGIT_BITS - 1)) if first else digit
        prefix = (prefix << DIGIT_BITS) + signed
        if low_bits == 0:
            break
    return prefix, wanted


def _count_digits(scores: Sequence[Scores], prefix: int, remaining_bits: int, first: bool) -> tuple[torch.Tensor, int]:
    """How often each value of the next digit occurs among the keys that begin with `prefix`.

    Returns the counts, (2^16,) int64 on the CPU, and the width of the keys in bits.
    """
    import torch

    counts = torch.zeros(1 << DIGIT_BITS, dtype=torch.int64)
    width = 0
    for source in scores:
        score = source()
        for _, keys in _keys(score):
            bits = torch.iinfo(keys.dtype).bits
            if width and bits != width:
                raise BadValue("scores of different dtypes cannot compete")
            width = bits
            if first:
                digits = (keys >> (bits - DIGIT_BITS)).int() + (1 << (DIGIT_BITS - 1))
            else:
                rest = keys[(keys >> remaining_bits) == prefix]
                digits = (rest >> (remaining_bits - DIGIT_BITS)) & ((1 << DIGIT_BITS) - 1)
            counts += torch.bincount(digits, minlength=1 << DIGIT_BITS).cpu()
        if first:
            _refuse_not_finite(score)
    return counts, width


def _refuse_not_finite(score: torch.Tensor) -> None:
    import torch

    extremes = torch.stack(torch.aminmax(score))
    if not bool(torch.isfinite(extremes).all()):
        raise BadValue("a score is NaN or infinite, so there is no telling what to keep; are the weights finite?")


def _keys(score: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(start, integer keys) chunk by chunk: keys are ordered as the scores are; +0 and -0 are equal."""
    import torch

    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[score.element_size()]
    least = torch.iinfo(integer).min
    flat = score.reshape(-1)
    for start in range(0, flat.numel(), CHUNK):
        bits = flat[start : start + CHUNK].view(integer)
        # Below zero, larger bits mean a lower number: count down from the sign bit instead.
        yield start, torch.where(bits < 0, least - bits, bits)
