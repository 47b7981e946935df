"""What an exception inside a cell means, in one line: no room, a GPU that is lost, or something that is broken.

Reads types by their names and texts by torch's own words, so that torch need not be there. Whatever it does not know
it tells by its type and the first line of its message.
"""

from __future__ import annotations

import errno
import re
import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

LONGEST = 240
"""Characters of a message that are told; some hold a whole page in one line."""
WAY_OUT = (
    "smaller --workloads, a smaller --training-batch, fewer --documents, --dtype=bfloat16 or another --device need less"
)
HOST = ("can't allocate memory", "cannot allocate memory", "not enough memory", "std::bad_alloc")
"""How torch says, in a RuntimeError, that the host has no room."""
GPU = ("cuda out of memory", "cuda error: out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")
LOST = (
    "device-side assert triggered",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ecc",
)
"""Errors of CUDA after which nothing can run in this process any more, by the words of its own list of errors."""
ASKED = re.compile(r"(?:tried|unable) to allocate (\d+ bytes|[\d.]+ ?[KMGTPE]?i?B)", re.IGNORECASE)
FREE = re.compile(r"of which ([\d.]+ ?[KMGTPE]?i?B) is free")
INDEX = re.compile(r"GPU (\d+)")


class Failure(NamedTuple):
    """What became of a cell."""

    reason: str
    """One line."""
    place: str | None = None
    """Where it was raised, for whoever mends it; None where there is nothing to mend."""
    lost: bool = False
    """Whether nothing can run on the GPU any more."""


def failure(error: BaseException) -> Failure:
    """What the exception means."""
    room = _no_room(error)
    if room is not None:
        return Failure(room)
    text = first_line(error)
    if is_lost(error):
        return Failure(f"{text} (nothing can run on this GPU any more until the process ends)", place(error), lost=True)
    return Failure(text, place(error))


def first_line(error: BaseException) -> str:
    """`TypeName: the first line of its message`."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def is_lost(error: BaseException) -> bool:
    """Whether the exception says that the CUDA context is beyond repair."""
    told = [line.lower() for line in str(error).splitlines() if "CUDA error" in line]  # below it stands other advice
    return any(words in line for line in told for words in LOST)


def of_cuda(error: BaseException) -> bool:
    """Whether CUDA itself reports it, and not torch about a call that it did not make."""
    return "CUDA error" in str(error)


def _no_room(error: BaseException) -> str | None:
    """The line of an exception that says that there is no memory left; None for any other."""
    text = str(error)
    where = _without_room(error, text.lower())
    if where is None:
        return None
    asked, free, index = ASKED.search(text), FREE.search(text), INDEX.search(text)
    if where == "cuda" and index:
        where = f"cuda:{index[1]}"
    more, left = (f"{_readable(asked[1])} more were asked for" if asked else ""), (f"{free[1]} free" if free else "")
    amounts = ", ".join(filter(None, (more, left)))
    return f"out of memory on {where}{amounts and f' ({amounts})'}; {WAY_OUT}"


def _without_room(error: BaseException, text: str) -> str | None:
    """Which memory is exhausted, "cuda" or "the host"; None where it is about something else."""
    if isinstance(error, MemoryError):
        return "the host"
    if isinstance(error, OSError):
        return "the host" if error.errno == errno.ENOMEM else None
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):  # torch's
        return "cuda"
    if not isinstance(error, RuntimeError):
        return None
    if any(words in text for words in GPU):
        return "cuda"
    return "the host" if any(words in text for words in HOST) else None


def _readable(amount: str) -> str:
    """`4096 bytes` as `4.0 KiB`; what has a larger unit stays as it is."""
    number, _, unit = amount.partition(" ")
    if unit.lower() != "bytes":
        return amount
    value, units = float(number), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.1f} {units[0]}" if units[0] != "bytes" else amount


def place(error: BaseException, above: str = "") -> str | None:
    """`in Linear.forward, torch/nn/modules/linear.py:134, from convert_layer, sparsity/formats/csr.py:33`.

    The innermost line, and the innermost that belongs to no installed package; one where they are the same. Lines of
    the file `above` do not count.
    """
    walked = traceback.walk_tb(error.__traceback__)
    found = [(frame.f_code, line) for frame, line in walked if frame.f_code.co_filename != above]
    if not found:
        return None
    own = [each for each in found if not _installed(each[0].co_filename)]
    told = [found[-1]] + ([own[-1]] if own and own[-1] != found[-1] else [])
    said = [f"{code.co_qualname}, {_short(code.co_filename)}:{line}" for code, line in told]
    return f"in {', from '.join(said)}"


def _installed(file: str) -> bool:
    parts = Path(file).parts
    if file.startswith("<") or {"site-packages", "dist-packages"} & set(parts):
        return True
    return Path(file).is_relative_to(sysconfig.get_path("stdlib"))


def _short(file: str) -> str:
    """Without what is the same for all files of a folder of packages, or of the folder one is in."""
    path = Path(file)
    for folder in ("site-packages", "dist-packages"):
        if folder in path.parts:
            return str(Path(*path.parts[path.parts.index(folder) + 1 :]))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
