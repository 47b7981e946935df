"""Scores → boolean masks, True = kept, with exact counts.

The one question here: *which of these scores are the highest?* Among any number of matrices that
compete together (one for scope `layer`, all of a model for scope `global`) the answer needs neither a
sort nor a copy of the scores; within the rows of one matrix (scope `row`, n:m) it is a rank or a
threshold per row. Either way it is exact and breaks ties by index: of equal scores the earlier stays,
matrices in the order given. Where scores have no ties the masks are those of
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
FEW = 16
"""Up to so many competitors are ranked by comparing each with each: far faster than sorting short rows."""
HALF = 1 << (DIGIT_BITS - 1)
"""First digits carry the sign, so they begin at -HALF."""


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
    threshold, wanted, equal = _threshold(scores, keep)
    every_tie_stays = wanted == equal
    masks = []
    for source in scores:
        score = source()
        mask = (score >= threshold).contiguous()
        if not every_tie_stays:
            wanted -= _drop_late_ties(mask, score == threshold, wanted)
        masks.append(mask)
        del score  # before the next is made: two at a time would double what this needs
    return masks


def keep_highest_in_rows(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """A mask that keeps exactly the `keep` highest scores of every row, of equal ones the earlier.

    Args:
        scores: (rows, competitors), any floating dtype.
        keep: 0 … competitors.

    Returns:
        Boolean, of the same shape, True = kept.
    """
    import torch

    rows, competitors = scores.shape
    if not 0 <= keep <= competitors:
        raise BadValue(f"cannot keep {keep} of {competitors} scores")
    mask = torch.empty_like(scores, dtype=torch.bool)
    some = max(1, CHUNK // max(1, competitors))
    choose = _by_rank if competitors <= FEW else _by_threshold
    for start in range(0, rows, some):
        part = scores[start : start + some]
        _refuse_not_finite(part)
        mask[start : start + some] = choose(part, keep)
    return mask


def _by_rank(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """Ranks by comparing each competitor with each: for few of them."""
    import torch

    columns = scores.t().contiguous()  # (competitors, rows)
    better = torch.zeros_like(columns, dtype=torch.int8)  # how many stand before each
    for later in range(1, len(columns)):
        earlier_wins = columns[:later] >= columns[later]
        better[:later] += ~earlier_wins
        for earlier in range(later):
            better[later] += earlier_wins[earlier]
    return (better < keep).t()


def _by_threshold(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """The keep-th highest of each row is the threshold; of the scores equal to it the earlier stay."""
    import torch

    competitors = scores.shape[1]
    if keep == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    wide = scores if scores.dtype.itemsize >= 4 else scores.float()  # exact, and every device can
    threshold = wide.kthvalue(competitors - keep + 1, dim=1, keepdim=True).values
    mask = wide >= threshold
    surplus = mask.sum(1) > keep
    if surplus.any():
        crowded, tied = mask[surplus], (wide == threshold)[surplus]
        spare = keep - (crowded & ~tied).sum(1, keepdim=True)
        mask[surplus] = crowded & (~tied | (tied.cumsum(1) <= spare))
    return mask


def _refuse_not_finite(score: torch.Tensor) -> None:
    import torch

    if score.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(score))).all()):
        raise BadValue("a score is NaN or infinite, so there is no telling what to keep; are the weights finite?")


def _drop_late_ties(mask: torch.Tensor, ties: torch.Tensor, wanted: int) -> int:
    """Of the tied positions only the first `wanted` stay in the mask; returns how many did."""
    kept = 0
    flat_mask, flat_ties = mask.view(-1), ties.reshape(-1)
    for start in range(0, flat_ties.numel(), CHUNK):
        part = flat_ties[start : start + CHUNK]
        here = int(part.count_nonzero())
        if here > wanted - kept:
            flat_mask[start : start + CHUNK] &= ~part | (part.cumsum(0) <= wanted - kept)
        kept += min(here, wanted - kept)
    return kept


def _threshold(scores: Sequence[Scores], keep: int) -> tuple[float, int, int]:
    """(the lowest kept score, how many scores equal to it are kept, how many there are)."""
    counts, dtype = _count_first_digits(scores)
    total = int(counts.sum())
    if not 0 <= keep <= total:
        raise BadValue(f"cannot keep {keep} of {total} scores")
    if keep == 0:
        return float("inf"), 0, 0
    remaining_bits = 8 * dtype.itemsize - DIGIT_BITS
    digit, wanted = _highest_digit(counts, keep)
    prefix = digit - HALF
    while remaining_bits:
        counts = _count_next_digits(scores, prefix, remaining_bits)
        digit, wanted = _highest_digit(counts, wanted)
        prefix = (prefix << DIGIT_BITS) + digit
        remaining_bits -= DIGIT_BITS
    return _score_of_key(prefix, dtype), wanted, int(counts[digit])


def _highest_digit(counts: torch.Tensor, wanted: int) -> tuple[int, int]:
    """(the digit of the `wanted`-th highest key, how many keys of that digit are still wanted)."""
    import torch

    so_far = counts.flip(0).cumsum(0)  # (digits,), from the highest down
    place = int(torch.searchsorted(so_far, wanted))
    digit = len(counts) - 1 - place
    return digit, wanted - int(so_far[place]) + int(counts[digit])


def _count_first_digits(scores: Sequence[Scores]) -> tuple[torch.Tensor, torch.dtype]:
    """How often each value of the first digit occurs, (2^16,) int64 on the CPU; and the scores' dtype."""
    import torch

    counts = torch.zeros(1 << DIGIT_BITS, dtype=torch.int64)
    dtypes = set()
    for source in scores:
        score = source()
        dtypes.add(score.dtype)
        _refuse_not_finite(score)
        for keys in _keys(score):
            digits = (keys >> (torch.iinfo(keys.dtype).bits - DIGIT_BITS)).int() + HALF
            counts += torch.bincount(digits, minlength=1 << DIGIT_BITS).cpu()
        del score
    if len(dtypes) != 1:
        raise BadValue(f"scores of different dtypes cannot compete: {', '.join(sorted(map(str, dtypes)))}")
    return counts, dtypes.pop()


def _count_next_digits(scores: Sequence[Scores], prefix: int, remaining_bits: int) -> torch.Tensor:
    """The same for the next digit, among the keys that begin with `prefix`."""
    import torch

    counts = torch.zeros(1 << DIGIT_BITS, dtype=torch.int64)
    for source in scores:
        score = source()
        for keys in _keys(score):
            rest = keys[(keys >> remaining_bits) == prefix]
            digits = (rest >> (remaining_bits - DIGIT_BITS)) & ((1 << DIGIT_BITS) - 1)
            if len(digits):
                counts += torch.bincount(digits, minlength=1 << DIGIT_BITS).cpu()
        del score
    return counts


def _keys(score: torch.Tensor) -> Iterator[torch.Tensor]:
    """Integer keys chunk by chunk, ordered as the scores are; +0 and -0 are equal."""
    import torch

    integer = _integer(score.dtype)
    flat = score.reshape(-1)
    for start in range(0, flat.numel(), CHUNK):
        bits = flat[start : start + CHUNK].view(integer)
        # Below zero, larger bits mean a lower number: count down from the sign bit instead.
        yield bits if int(bits.amin()) >= 0 else torch.where(bits < 0, torch.iinfo(integer).min - bits, bits)


def _score_of_key(key: int, dtype: torch.dtype) -> float:
    """The score that has this key."""
    import torch

    integer = _integer(dtype)
    bits = key if key >= 0 else torch.iinfo(integer).min - key
    return float(torch.tensor([bits], dtype=integer).view(dtype))


def _integer(dtype: torch.dtype) -> torch.dtype:
    """The integer type as wide as a floating-point type."""
    import torch

    return {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
