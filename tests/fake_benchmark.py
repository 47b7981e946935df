"""As much of pytest-benchmark's fixture as may be relied on, without pytest-benchmark."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from sparsity.measure import duet


class FakeBenchmark:
    """Times each round of `pedantic` between its setup and its teardown, and keeps what it was asked for."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.asked: dict[str, Any] = {}
        self.stats: Any = None

    def pedantic(
        self,
        function: Callable[[], object],
        setup: Callable[[], None] = lambda: None,
        teardown: Callable[[], None] = lambda: None,
        rounds: int = 1,
    ) -> None:
        self.asked = {"setup": setup, "teardown": teardown, "rounds": rounds}
        times = []
        for _ in range(rounds):
            setup()
            times.append(duet.seconds(function))
            teardown()
        self.stats = types.SimpleNamespace(stats=types.SimpleNamespace(data=times))
