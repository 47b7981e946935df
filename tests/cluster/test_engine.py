"""What is sent where and when, and what is made of what comes back; with a stand-in for Ray."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from sparsity.cluster import engine
from sparsity.cluster.child import Order
from sparsity.cluster.engine import Engine, Needs
from sparsity.cluster.ledger import GivenUp, Group, Ledger
from sparsity.errors import BadValue, Refused

exceptions = pytest.importorskip("ray", reason="Ray is not installed").exceptions
ORDER = Order("key", (), ".", {}, {}, (), 60.0)
DIGEST = "of all tests"


@dataclass(eq=False)
class Stream:
    """A task that was sent, and what will come of it."""

    tests: tuple[str, ...]
    options: dict[str, Any]
    events: deque[Any] = field(default_factory=deque)
    decided: bool = False
    """Whether it is known what comes of it."""
    cancelled: bool = False

    def __next__(self) -> Any:
        if not self.events:
            raise StopIteration
        return self.events.popleft()

    def runs(self, *tests: str, node: str = "host-111111") -> None:
        """Its tests are run, and it ends."""
        self.decided = True
        for test in tests or self.tests:
            self.events += [{"begun": test, "node": node}, {"ended": test, "reports": [], "node": node}]
        self.events.append({"end": "", "node": node})


class FakeRay:
    """What the engine uses of Ray."""

    def __init__(
        self, cores: tuple[int, ...] = (2, 2), gpus: int = 0, fates: dict[str, list[Any]] | None = None
    ) -> None:
        self.sent: list[Stream] = []
        self.fates = fates
        self.alive: list[dict[str, Any]] = [
            {
                "Alive": True,
                "NodeID": str(i + 1) * 56,
                "NodeManagerHostname": "host",
                "Resources": {"CPU": c, "GPU": gpus},
            }
            for i, c in enumerate(cores)
        ]

    def nodes(self) -> list[dict[str, Any]]:
        return self.alive

    def remote(self, function: Any) -> Any:
        assert function is engine.serve
        return self

    def options(self, **options: Any) -> Any:
        assert options["max_retries"] == 0
        ray = self

        class Sender:
            def remote(self, order: Order) -> Stream:
                stream = Stream(order.tests, options)
                ray.sent.append(stream)
                if ray.fates is not None:
                    ray.decide(stream, ray.fates.get(stream.tests[0], []))
                return stream

        return Sender()

    def wait(self, streams: list[Stream], num_returns: int, timeout: float) -> tuple[list[Stream], list[Stream]]:
        del num_returns, timeout
        return [each for each in streams if each.decided][:1], []

    def decide(self, stream: Stream, fates: list[Any]) -> None:
        """What comes of a group: its first test begins and it is lost, as long as there are fates; then it runs."""
        if fates:
            stream.events += [{"begun": stream.tests[0], "node": "host-111111"}, fates.pop(0)]
            stream.decided = True
        else:
            stream.runs()

    def get(self, event: Any) -> Any:
        if isinstance(event, Exception):
            raise event
        return event

    def cancel(self, stream: Stream, force: bool) -> None:
        assert force
        stream.cancelled = True

    def shutdown(self) -> None:
        pass


ONE_CORE = Needs(1, 0)


def made(ray: FakeRay, *groups: Group, needs: Needs = ONE_CORE, died: dict[str, int] | None = None) -> Engine:
    return Engine("local", needs, ORDER, Ledger(groups, died or {}), DIGEST, ray=ray)


def test_groups_that_time_go_first_alone_and_one_to_a_node() -> None:
    ray = FakeRay()
    found = made(ray, Group(("q",), False), *(Group((f"t{i}",), True) for i in range(3)))
    found._send()
    assert [each.tests for each in ray.sent] == [("t0",), ("t1",)]
    assert [each.options["num_cpus"] for each in ray.sent] == [2, 2]
    assert {each.options["scheduling_strategy"].node_id for each in ray.sent} == {"1" * 56, "2" * 56}
    ray.sent[0].runs()
    events: Any = found.events()
    assert [next(iter(next(events))) for _ in range(3)] == ["begun", "ended", "end"]
    ray.sent[1].runs()
    next(events)
    assert ray.sent[2].tests == ("t2",)
    assert len(ray.sent) == 3, "a group went beside one that waits to be timed"


def test_other_groups_fill_what_is_left_and_a_little_ahead() -> None:
    ray = FakeRay(cores=(2, 1))
    found = made(ray, *(Group((f"q{i}",), False) for i in range(20)))
    found._send()
    assert len(ray.sent) == engine.AHEAD * 3
    assert {each.options["num_cpus"] for each in ray.sent} == {1}
    assert all("scheduling_strategy" not in each.options for each in ray.sent)


def test_a_gpu_is_asked_for_and_a_node_without_one_is_not() -> None:
    ray = FakeRay(cores=(8, 8), gpus=1)
    ray.alive[0]["Resources"]["GPU"] = 0
    found = made(ray, Group(("t",), True), needs=Needs(1, 1))
    found._send()
    (sent,) = ray.sent
    assert (sent.options["num_gpus"], sent.options["num_cpus"]) == (1, 8)
    assert sent.options["scheduling_strategy"].node_id == "2" * 56


WORKER, MEMORY = exceptions.WorkerCrashedError(), exceptions.OutOfMemoryError("full")
NODE = "(node host-111111); so it went 3 times"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (WORKER, f"its worker was lost (WorkerCrashedError) {NODE}"),
        (MEMORY, f"its node had no memory left {NODE}"),
        ({"died": "ended by SIGKILL", "node": "host-111111"}, f"ended by SIGKILL {NODE}"),
    ],
)
def test_what_ends_a_worker_three_times_is_given_up_and_its_group_goes_on(end: Any, reason: str) -> None:
    ray = FakeRay(fates={"a": [end] * 3})
    events = list(made(ray, Group(("a", "b"), False)).events())
    assert [each for each in events if isinstance(each, GivenUp)] == [GivenUp("a", reason)]
    assert [each["ended"] for each in events if not isinstance(each, GivenUp) and "ended" in each] == ["b"]


def test_a_lost_node_is_no_fault_of_the_test() -> None:
    ray = FakeRay(fates={"a": [exceptions.NodeDiedError("gone")] * 4})
    found = made(ray, Group(("a",), False))
    events = list(found.events())
    assert not any(isinstance(each, GivenUp) for each in events)
    assert sum("ended" in each for each in events if not isinstance(each, GivenUp)) == 1
    assert found.ledger.moves["a"] == 4


def test_a_worker_lost_with_its_node_is_known_by_the_nodes_that_are_left() -> None:
    ray = FakeRay(fates={"a": [exceptions.WorkerCrashedError()]})
    found = made(ray, Group(("a",), False))
    for event in found.events():
        if "begun" in event:  # type: ignore[operator]  # nothing is given up
            ray.alive[:] = ray.alive[1:]
    assert found.ledger.moves["a"] == 1
    assert found.ledger.deaths["a"] == 0


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"refused": "no such device", "node": "host-111111"}, r"^no such device \(node host-111111\)$"),
        (
            {"ready": "host-222222", "tests": 3, "digest": "another", "node": "host-222222"},
            r"^node host-222222 has other tests \(3\)",
        ),
    ],
)
def test_a_node_that_cannot_take_part_ends_the_sweep(event: dict[str, Any], told: str) -> None:
    ray = FakeRay()
    found = made(ray, Group(("a",), False))
    found._send()
    ray.sent[0].events.append(event)
    ray.sent[0].decided = True
    with pytest.raises(BadValue, match=told):
        list(found.events())


def test_what_no_worker_can_begin_ends_the_sweep_before_all_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(fates={})

    def never(stream: Stream, fates: list[Any]) -> None:
        stream.events.append({"died": "no such module", "node": "host-111111"})
        stream.decided = True

    monkeypatch.setattr(ray, "decide", never)
    found = made(ray, *(Group((f"q{i}",), False) for i in range(9)))
    with pytest.raises(Refused, match=r"^--ray: no such module \(node host-111111\); it could not be begun 3 times$"):
        list(found.events())


def test_without_a_node_it_waits_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    ray = FakeRay(cores=(1,))
    found = made(ray, Group(("a",), False), needs=Needs(2, 0))
    with pytest.raises(Refused, match="has 2 cores, which a cell needs; there are: host-111111 with 1 "):
        list(found.events())
    assert now[0] > engine.WAIT


def test_once_the_budget_is_spent_nothing_is_sent() -> None:
    ray = FakeRay()
    found = made(ray, Group(("a",), False))
    found.until = 0.0
    assert list(found.events()) == []
    assert ray.sent == []


def test_tests_that_died_before_are_told_and_not_sent() -> None:
    ray = FakeRay()
    found = made(ray, Group(("a",), False), died={"a": 3})
    assert [each.test for each in found.events() if isinstance(each, GivenUp)] == ["a"]
    assert ray.sent == []


def test_what_still_runs_is_ended_with_the_sweep() -> None:
    ray = FakeRay()
    found = made(ray, Group(("a",), False))
    found._send()
    found.stop()
    assert ray.sent[0].cancelled
