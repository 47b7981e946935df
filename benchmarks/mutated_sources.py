"""Regressions planted in a copy of the project's source, each with the answer that the gate must give.

A mutation replaces one text in one file, which must be there exactly once. It is measured by as few cells as show it,
beside the same cells of the unchanged copy.

Refuses a mutation that does not fit the source any more: it would plant nothing, and be called caught or missed for it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sparsity.errors import BadValue

ROOT = Path(__file__).parent.parent
SMOKE = ("--profile=smoke", "--threads=1")
COSTS = (*SMOKE, "-ktest_forward_memory", "--patterns=unstructured", "--sparsities=0.9")
TIMES = (*SMOKE, "-ktest_forward_latency", "--patterns=unstructured", "--sparsities=0.9", "--workloads=8x64")
QUALITY = (*SMOKE, "-ktest_metric", "--tasks=lm", "--methods=l1", "--sparsities=0.5", "--documents=100")
RECOVERED = (*SMOKE, "-ktest_recovered", "--recoveries=distill:3", "--sparsities=0.5", "--documents=100")
BERT, GPT2 = ("--models=bert",), ("--models=gpt2",)


@dataclass(frozen=True)
class SourceMutation:
    """One replacement in one file of the source."""

    name: str
    file: str
    old: str
    new: str
    options: tuple[str, ...]
    """Of pytest: the cells that show it."""
    expected: int = 1
    timed: bool = False
    """Whether times are compared as well."""

    def planted(self, root: Path) -> str:
        """The file's text with the mutation in it. Raises `BadValue` where it does not fit."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (found := text.count(self.old)) != 1:
            raise BadValue(f"mutation {self.name!r} no longer fits: {self.file} holds its text {found} times, not once")
        return text.replace(self.old, self.new)

    def apply(self, root: Path) -> None:
        """Plants it into a copy."""
        (root / self.file).write_text(self.planted(root), encoding="utf-8")


def copied(folder: Path) -> Path:
    """A copy of the working tree, without what git ignores. Raises `BadValue` where git does not know the tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  # a fixed command
    if done.returncode:
        raise BadValue(f"{ROOT}: git cannot list its files ({done.stderr.strip()}); mutations need a checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


SLOWED = """        control = is_control(pruned, executed)
        if not control:
            import statistics

            from sparsity.measure import duet

            extra, quick = 0.1 * statistics.median(duet.seconds(dense) for _ in range(30)), own

            def own() -> object:
                found, end = quick(), time.perf_counter() + extra
                while time.perf_counter() < end:
                    pass
                return found

        floor ="""
MUTATIONS = (
    SourceMutation(
        "masks left on in format dense",
        "sparsity/formats/dense.py",
        "        del layers, masks\n        return model\n",
        "        from sparsity.formats import masked\n\n        return masked.FORMAT.convert(model, layers, masks)\n",
        (*COSTS, *BERT, "--formats=dense"),
    ),
    SourceMutation(
        "the dense weight kept beside the packed one",
        "sparsity/kernel/layers.py",
        '        self.register_buffer("packed", torch.from_numpy(packed))\n',
        '        self.register_buffer("packed", torch.from_numpy(packed))\n'
        '        self.register_buffer("kept", weight.clone())\n',
        (*COSTS, *BERT, "--formats=packed"),
    ),
    SourceMutation(
        "compressed rows by the slow call, F.linear",
        "sparsity/compressed.py",
        "            found = torch.addmm(bias[:, None].expand(-1, len(part)), weight, part.t())\n",
        "            found = torch.nn.functional.linear(part, weight, bias).t()\n",
        (*TIMES, *BERT, "--formats=csr", "--time-per-cell=2"),
        timed=True,
    ),
    SourceMutation(
        "compressed rows multiplied as a dense matrix",
        "sparsity/compressed.py",
        "    if tokens == 1 and tile not in SLOW_WITH_A_VECTOR",
        "    weight = weight.to_dense()\n    if tokens == 1 and tile not in SLOW_WITH_A_VECTOR",
        (*TIMES, *BERT, "--formats=csr"),
    ),
    SourceMutation(
        "GPT-2's Conv1D not taken for a matrix",
        "sparsity/models/architecture.py",
        "    return _is_plain(module) or isinstance(module, Conv1D)\n",
        "    return _is_plain(module)\n",
        (*COSTS, *GPT2, "--formats=csr"),
        expected=2,  # refused by name, so no cell is measured
    ),
    SourceMutation(
        "one Conv1D of each of GPT-2's blocks left out",
        "sparsity/models/architecture.py",
        "        for path in _matrices(block, stack):\n",
        "        for path in _matrices(block, stack)[1:]:\n",
        (*COSTS, *GPT2, "--formats=csr"),
    ),
    SourceMutation(
        "position embeddings pruned too",
        "sparsity/models/architecture.py",
        '    if not layers:\n        raise ModelNotUnderstood(f"{type(model).__name__} has no Linear',
        "    for name, module in model.named_modules():\n"
        '        if name.endswith("position_embeddings"):\n'
        "            layers.append(PrunableLayer(name, module, False))\n"
        '    if not layers:\n        raise ModelNotUnderstood(f"{type(model).__name__} has no Linear',
        (*COSTS, *BERT, "--formats=dense"),
    ),
    SourceMutation(
        "the activation applied twice",
        "sparsity/formats/packed.py",
        "    model.set_submodule(between, HandsOn())\n",
        "",
        (*COSTS, *BERT, "--formats=packed"),
    ),
    SourceMutation(
        "a bias dropped",
        "sparsity/formats/csr.py",
        "    return compressed.linear(layer.weight, mask, layer.module.bias)",
        "    return compressed.linear(layer.weight, mask, None)",
        (*COSTS, *BERT, "--formats=csr"),
    ),
    SourceMutation(
        "a norm dropped from the pruned model",
        "sparsity/prune.py",
        "    return copy.deepcopy(dense, shared)\n",
        "    from torch.nn import Identity\n\n    own_model = copy.deepcopy(dense, shared)\n"
        '    last = [name for name, _ in own_model.named_modules() if name.endswith("LayerNorm")][-1]\n'
        "    own_model.set_submodule(last, Identity())\n    return own_model\n",
        (*QUALITY, *BERT),
    ),
    SourceMutation(
        "the least of all weights kept",
        "sparsity/methods/l1.py",
        "    return weight.abs()\n",
        "    return -weight.abs()\n",
        (*QUALITY, *BERT),
    ),
    SourceMutation(
        "masks inverted",
        "sparsity/mask.py",
        "        mask = (score >= threshold).contiguous()\n",
        "        mask = (score < threshold).contiguous()\n",
        (*COSTS, *BERT, "--formats=csr"),
    ),
    SourceMutation(
        "one weight more removed from each layer",
        "sparsity/mask.py",
        "    return round(sparsity * total)\n",
        "    return round(sparsity * total) + 1\n",
        (*COSTS, *BERT, "--formats=csr"),
    ),
    SourceMutation(
        "zeros not held while training",
        "sparsity/recover.py",
        "                weight.grad.mul_(mask)\n",
        "                weight.grad.mul_(1)\n",
        (*RECOVERED, *BERT, "--tasks=classification"),
    ),
    SourceMutation(
        "a tenth of a dense pass more work in each pruned one",
        "sparsity/bench.py",
        "        control = is_control(pruned, executed)\n        floor =",
        SLOWED,
        (*TIMES, *BERT, "--formats=packed", "--time-per-cell=4"),
        timed=True,
    ),
)
"""All of them."""
