"""The state of a training on disk, so that one that was interrupted goes on: safetensors and JSON, no pickle.

Written beside and moved into place, so a save that is cut off leaves the one before. What is saved: parameters,
the optimizer's moments, the random state, what the hold of masks keeps, and which training it is.

Refuses the state of another training, and files that are not whole.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import BadValue

if TYPE_CHECKING:
    import torch
    from torch import nn

FILE = "training.safetensors"
PART = f"{FILE}.part"
"""Of a save that is not over."""


@dataclass(frozen=True)
class Reached:
    """How far a training has come."""

    steps: int = 0
    seconds: float = 0.0
    documents: int = 0


START = Reached()


def save(
    folder: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    held: Mapping[str, torch.Tensor],
    reached: Reached,
) -> None:
    """The whole state, into one file of the folder.

    Args:
        folder: made where it is missing.
        identity: which training this is, plain values; another's state is refused on resuming.
        model: its parameters are saved.
        optimizer: AdamW over them.
        held: what the hold of masks keeps.
        reached: how far it has come.

    Raises `BadValue` where nothing can be saved.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"parameter/{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
    tensors |= {f"held/{name}": value for name, value in held.items()}
    tensors["random"] = torch.get_rng_state()
    if (device := _gpu(model)) is not None:
        tensors["random cuda"] = torch.cuda.get_rng_state(device)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    told = {"identity": _text(identity), "reached": json.dumps(dataclasses.asdict(reached))}
    beside = folder / PART
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(whole, beside, told)
        beside.replace(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise BadValue(
            f"{folder}: the state of a training cannot be saved there: {' '.join(str(error).split())}"
        ) from None


def check(folder: Path) -> None:
    """Raises `BadValue` where nothing could be saved, before anything is trained."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PART).touch()
        (folder / PART).unlink()
    except OSError as error:
        raise BadValue(f"{folder}: the state of a training cannot be saved there: {error.strerror}") from None


def resume(
    folder: Path, identity: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Reached, dict[str, torch.Tensor]]:
    """What was reached, with model, optimizer and random state brought there, and what the hold kept.

    The start, and nothing touched, where the folder holds no state. Raises `BadValue` for that of another training.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    file = folder / FILE
    if not file.is_file():
        return START, {}
    try:
        with safe_open(file, "pt") as opened:
            told = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
        reached = Reached(**json.loads(told["reached"]))
        if type(reached.steps) is not int or reached.steps < 1 or not 0 <= reached.seconds < math.inf:
            raise ValueError(told["reached"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BadValue(f"{file}: no state of a training ({type(error).__name__}); remove it to start anew") from None
    shapes = {name: tensor.shape for name, tensor in tensors.items() if name.startswith("parameter/")}
    own = {f"parameter/{name}": parameter.shape for name, parameter in model.named_parameters()}
    if told.get("identity") != _text(identity) or shapes != own or "random" not in tensors:
        raise BadValue(f"{file}: the state of another training; remove it, or choose another folder")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"parameter/{name}"])
            prefix = f"optimizer/{name}/"
            moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if moments:  # the count of steps lies where the optimizer wants it: beside the weights when it is fused
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    torch.set_rng_state(tensors["random"])
    if "random cuda" in tensors and (device := _gpu(model)) is not None:
        torch.cuda.set_rng_state(tensors["random cuda"], device)
    return reached, {name.removeprefix("held/"): value for name, value in tensors.items() if name.startswith("held/")}


def forget(folder: Path) -> None:
    """Removes the state: the training is over."""
    for name in (FILE, PART):
        (folder / name).unlink(missing_ok=True)


def _gpu(model: nn.Module) -> torch.device | None:
    """Where dropout draws, beside the CPU."""
    device = next(model.parameters()).device
    return device if device.type == "cuda" else None


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)
