"""Sends groups of tests to the nodes of a Ray cluster, and hears what becomes of them.

Ray does the distributing: a group is a task with the resources that it needs, a device or cores, and a stream of what
its tests leave. One that times asks for every core of its node, so that nothing else of ours, or of anybody's who
asks Ray, runs beside it; while any such waits, no other group is begun. Whatever is lost (a worker, a node, memory)
goes back to the `Ledger`.

Refuses: a cluster that cannot be reached, or none of whose nodes has what a group needs; nodes whose files differ.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sparsity.cluster import child
from sparsity.cluster.ledger import GivenUp, Job, Ledger
from sparsity.errors import BadValue, Refused, one_line

LOCAL = "local"
"""The address of a cluster of this machine alone, started for the run."""
WAIT = 60.0
"""Seconds for which a cluster may have no node with what is needed: one may be on its way back."""
EVERY = 1.0
"""Seconds between two looks at the nodes."""
CONNECT = 10.0
"""Seconds in which a cluster must answer."""
AHEAD = 2
"""Groups that wait in Ray for each that could run, so that no worker waits for us."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # the ledger tells them
}
"""Variables of Ray: nothing is sent home, and nothing told twice."""
EXTRA = "needs Ray; pip install 'sparsity-bench[cluster]'"


class Needs(NamedTuple):
    """What one group asks of its node."""

    cores: int | None
    """None: all that the node has."""
    gpus: int


class Node(NamedTuple):
    """A machine of the cluster, as Ray knows it."""

    id: str
    name: str
    cores: int
    gpus: int


@dataclass
class Sent:
    """A group in Ray's hands."""

    job: Job
    stream: Any
    node: Node | None
    """Where it was pinned to; None: wherever Ray has room."""
    where: str | None = None
    """The node that it was last heard from."""


@dataclass
class Engine:
    """One sweep. Iterate `events` once, and `stop` whatever happens."""

    address: str
    needs: Needs
    order: child.Order
    """Of every group, but for its tests."""
    ledger: Ledger
    digest: str
    """Of the names of all tests, which every node must know."""
    until: float = float("inf")
    """When the budget is spent, by the monotonic clock."""
    sent: dict[Any, Sent] = field(default_factory=dict)
    ray: Any = None
    begun: bool = False
    """Whether any test has begun anywhere."""
    _missed: float | None = None

    def start(self) -> None:
        """Reaches the cluster, or starts one. Raises `BadValue`, `Refused`."""
        self.ray = reached(self.address)
        if not self._fitting():
            raise Refused(f"--ray: {self._lack()}")

    def stop(self) -> None:
        """Leaves the cluster; what still runs for us is ended."""
        if self.ray is None:
            return
        for each in self.sent.values():
            with contextlib.suppress(Exception):  # it may have ended, or its node
                self.ray.cancel(each.stream, force=True)
        self.sent.clear()
        self.ray.shutdown()

    def events(self) -> Iterator[child.Event | GivenUp]:
        """What happens, until nothing is left to do. Raises `BadValue`, `Refused` where the sweep cannot go on."""
        yield from self.ledger.refused()
        while self.ledger or self.sent:
            if not self.sent and time.monotonic() > self.until:
                return
            self._send()
            ready = self.ray.wait(list(self.sent), num_returns=1, timeout=EVERY)[0] if self.sent else []
            for stream in ready:
                yield from self._heard(stream)
            if not ready:
                self._look_for_nodes()

    # -- sending ----------------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """Those that are alive, by their names; two on one machine are told apart."""
        found = []
        for each in self.ray.nodes():
            if each["Alive"]:
                cores, gpus = (int(each["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
                found.append(Node(each["NodeID"], _called(each), cores, gpus))
        return found

    def _fitting(self) -> list[Node]:
        least = self.needs.cores or 1
        return [node for node in self.nodes() if node.cores >= least and node.gpus >= self.needs.gpus]

    def _lack(self) -> str:
        wanted = f"{self.needs.cores or 1} cores" + (f" and {self.needs.gpus} GPU" if self.needs.gpus else "")
        had = ", ".join(f"{node.name} with {node.cores} cores and {node.gpus} GPUs" for node in self.nodes()) or "none"
        return f"no node of the cluster has {wanted}, which a cell needs; there are: {had}"

    def _look_for_nodes(self) -> None:
        """Nothing was heard: while there is no node, one is waited for, but not for ever."""
        if self._fitting():
            self._missed = None
            return
        now = time.monotonic()
        self._missed = self._missed or now
        if now - self._missed > WAIT:
            raise Refused(f"--ray: {self._lack()}; what was measured is kept, --resume goes on")
        time.sleep(EVERY)

    def _send(self) -> None:
        """As much as there is room for, and a little ahead; those that time by themselves."""
        if not self.ledger or time.monotonic() > self.until:
            return
        nodes = self._fitting()
        if self.ledger.timed:
            taken = {each.node.id for each in self.sent.values() if each.node is not None}
            for node in nodes:
                if node.id not in taken and self.ledger.timed:
                    self._submit(Job(self.ledger.timed.popleft()), node, node.cores)
            return
        if not nodes:
            return
        waiting = sum(each.node is None for each in self.sent.values())
        most, least = AHEAD * max(1, sum(map(self._room, nodes))), min(node.cores for node in nodes)
        while self.ledger.others and waiting < most:
            self._submit(Job(self.ledger.others.popleft()), None, self.needs.cores or least)
            waiting += 1

    def _room(self, node: Node) -> int:
        """How many groups a node can run at a time."""
        by_cores = node.cores // self.needs.cores if self.needs.cores else 1
        return min(by_cores, node.gpus // self.needs.gpus) if self.needs.gpus else by_cores

    def _submit(self, job: Job, node: Node | None, cores: int) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        budget = None if self.until == float("inf") else self.until - time.monotonic()
        order = replace(self.order, tests=job.group.tests, budget=budget)
        options: dict[str, Any] = {"num_gpus": self.needs.gpus, "num_cpus": cores}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        # Retries are the ledger's: Ray would run again what is done.
        remote = self.ray.remote(serve).options(num_returns="streaming", max_retries=0, **options)
        stream = remote.remote(order)
        self.sent[stream] = Sent(job, stream, node)

    # -- hearing ----------------------------------------------------------------------------------

    def _heard(self, stream: Any) -> Iterator[child.Event | GivenUp]:
        sent = self.sent[stream]
        try:
            event: child.Event = self.ray.get(next(stream))
        except StopIteration:
            del self.sent[stream]
            yield from self.ledger.lost(sent.job, "its worker ended early") if sent.job.left else ()
            return
        except Exception as error:
            del self.sent[stream]
            yield from self._lost(sent, error)
            return
        yield from self._took(sent, event)

    def _took(self, sent: Sent, event: child.Event) -> Iterator[child.Event | GivenUp]:
        job, sent.where = sent.job, event["node"]
        if "refused" in event:
            raise BadValue(f"{event['refused']} (node {event['node']})")
        if "ready" in event and event["digest"] != self.digest:
            raise BadValue(f"node {event['ready']} has other tests ({event['tests']}); share the same files with it")
        if "died" in event:
            del self.sent[sent.stream]
            lost = self.ledger.lost(job, f"{event['died']} (node {event['node']})")
            if lost and not self.begun:  # it will be no better with the others
                raise Refused(f"--ray: {lost[0].reason}")
            yield from lost
            return
        if "begun" in event:
            self.begun = True
            job.begun(event["begun"])
        if "ended" in event or "hung" in event:
            job.ended(event.get("ended") or event["hung"])
        yield event

    def _lost(self, sent: Sent, error: Exception) -> Iterator[child.Event | GivenUp]:
        """A stream that broke off: the worker, its node, or its memory."""
        from ray import exceptions

        if isinstance(error, exceptions.RayTaskError):  # our own code, or an environment that lacks it
            raise Refused(f"--ray: a node cannot run our tasks ({one_line(error.cause or error)})")
        where = sent.where or (sent.node.name if sent.node else None)
        gone = (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.TaskUnschedulableError)
        of_node = isinstance(error, gone) or (where is not None and where not in {node.name for node in self.nodes()})
        if of_node:
            reason = "its node was lost"
        elif isinstance(error, exceptions.OutOfMemoryError):
            reason = "its node had no memory left"
        else:
            reason = f"its worker was lost ({type(error).__name__})"
        yield from self.ledger.lost(sent.job, f"{reason} (node {where})" if where else reason, blame=not of_node)


def _called(node: dict[str, Any]) -> str:
    """The name of a node that Ray describes."""
    return f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}"


def serve(order: child.Order) -> Iterator[child.Event]:
    """The Ray task: a group, by a process of its own; each event says which node it comes from."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    name = next((_called(each) for each in known if each["NodeID"] == here), here)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    placed = replace(order, key=f"{order.key} {devices}", settings={**order.settings, "node": name})
    for event in child.run(placed):
        yield {**event, "node": name}


def _answers(address: str) -> None:
    """Raises `OSError` where nothing answers at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address.startswith("ray://"):
        raise ValueError("a client's address; start the run on a node of the cluster, by ray job submit from elsewhere")
    if colon and port.isdecimal():
        with socket.create_connection((host, int(port)), CONNECT):
            pass


def reached(address: str) -> Any:
    """Ray, connected. Raises `Refused` where it is not installed, `BadValue` for a cluster that cannot be reached."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _answers(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own dependencies
            import ray

            ray.init(
                address=address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except ImportError:
        raise Refused(f"--ray {EXTRA}") from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "; the address follows an equals sign, --ray=ADDRESS" if os.path.exists(address) else ""  # noqa: PTH110  # no path is meant
        raise BadValue(f"--ray={address}: no Ray cluster can be reached there ({one_line(error)}){hint}") from None
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, handler)
    return sys.modules["ray"]
