"""What would a sweep of 10 000 cells of an 8B model take? Unit costs of a 6.7B model on one H200, scaled by parameters.

    python docs/examples/plan_8b.py

What was measured and what is told stands beside each number; `docs/scale.md` shows the output.
"""

from __future__ import annotations

from dataclasses import replace

from tabulate import tabulate

from sparsity.cost import Costs, Sweep, estimate

LARGER = 8.03 / 6.74
"""Parameters of the model beside those of the one that was measured."""
TOKENS = 341_000
"""Of a long text such as WikiText-2's test split; told."""
ONE_PASS = Costs(
    start=20.0,  # told: imports, CUDA, and to collect 10 000 tests (3 s for 28 911)
    load=LARGER * (10.7 + TOKENS / 33_600),  # measured: 12.55 GiB read to the GPU; 8x512 tokens in 122 ms, for dense
    prune=LARGER * 13.2,  # measured: l1, unstructured and 2:4
    evaluate=LARGER * TOKENS / 33_600,
    timed=10.0,  # measured: 5 to 9 s at --time-per-cell=2
    checkpoint=16.1e9,
    record=3200.0,  # measured: a quality cell in the file
)
SPARSEGPT = replace(ONE_PASS, prune=LARGER * 174.0)  # measured: 32 documents of 512 tokens, block by block from disk
CELLS, TIMED, GROUPS = 10_000, 2_000, 1_000
CLUSTERS = {
    "1 node, 1 GPU": (1, 1),
    "1 node, 8 GPUs": (1, 8),
    "8 nodes, 64 GPUs": (8, 64),
    "64 nodes, 64 GPUs": (64, 64),
}


def main() -> None:
    """One row for each cluster: half of the cells by SparseGPT, half by a method of one pass."""
    rows = []
    for name, (nodes, devices) in CLUSTERS.items():
        half = Sweep(GROUPS // 2, CELLS // 2, TIMED // 2, nodes, devices)
        both = [estimate(costs, half) for costs in (ONE_PASS, SPARSEGPT)]
        device = sum(each.device_seconds for each in both) / 3600
        clock = sum(each.seconds for each in both) / 3600
        read, sent = (sum(values) for values in zip(*((each.read, each.sent) for each in both), strict=True))
        rows.append([name, f"{device:.0f}", f"{clock:.1f}", f"{read / 1e12:.1f}", f"{sent / 1e6:.0f}"])
    print(tabulate(rows, ("cluster", "device hours", "hours", "TB read", "MB sent"), disable_numparse=True))


if __name__ == "__main__":
    main()
