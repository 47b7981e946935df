"""What becomes of tests whose worker, machine or memory is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.cluster.ledger import MOVES, TRIES, GivenUp, Group, Job, Ledger, grouped


def ledger(*groups: Group, died: dict[str, int] | None = None) -> Ledger:
    return Ledger(groups, died or {})


def test_tests_that_share_a_key_are_one_group_and_timed_ones_another() -> None:
    tests = [("a", "bert", False), ("b", "gpt2", False), ("c", "bert", True), ("d", "bert", False)]
    assert grouped(tests) == [Group(("a", "d"), False), Group(("b",), False), Group(("c",), True)]


def test_what_times_waits_apart() -> None:
    found = ledger(Group(("a",), False), Group(("b",), True))
    assert [group.tests for group in found.timed] == [("b",)]
    assert [group.tests for group in found.others] == [("a",)]


def test_a_group_whose_worker_dies_waits_again_first_without_what_is_done() -> None:
    found = ledger(Group(("x",), False))
    job = Job(Group(("a", "b", "c"), False))
    job.begun("a")
    job.ended("a")
    job.begun("b")
    assert found.lost(job, "killed") == []
    assert [group.tests for group in found.others] == [("b", "c"), ("x",)]


def test_a_test_that_its_worker_dies_in_again_and_again_is_given_up_and_the_rest_is_not() -> None:
    found = ledger(Group(("a", "b"), False))
    for time in range(TRIES):
        job = Job(found.others.popleft())
        job.begun("a")
        given_up = found.lost(job, "killed by SIGKILL")
        assert bool(given_up) == (time == TRIES - 1)
    assert given_up == [GivenUp("a", f"killed by SIGKILL; so it went {TRIES} times")]
    assert [group.tests for group in found.others] == [("b",)]


def test_a_lost_machine_is_not_held_against_a_test_until_it_is_too_many() -> None:
    found = ledger(Group(("a",), True))
    given_up: list[GivenUp] = []
    for time in range(MOVES):
        assert not given_up, f"after {time} machines"
        job = Job(found.timed.popleft())
        job.begun("a")
        given_up = found.lost(job, "its node was lost", blame=False)
    assert [each.test for each in given_up] == ["a"]
    assert found.deaths["a"] == 0
    assert not found


def test_a_group_that_cannot_be_begun_is_given_up_whole() -> None:
    found = ledger(Group(("a", "b"), False))
    for _ in range(TRIES - 1):
        assert found.lost(Job(found.others.popleft()), "no such module") == []
    given_up = found.lost(Job(found.others.popleft()), "no such module")
    assert [each.test for each in given_up] == ["a", "b"]
    assert "could not be begun 3 times" in given_up[0].reason


def test_a_worker_that_dies_between_two_tests_has_begun_something() -> None:
    found = ledger()
    job = Job(Group(("a", "b"), False, not_begun=TRIES - 1))
    job.begun("a")
    job.ended("a")
    assert found.lost(job, "killed") == []
    assert list(found.others) == [Group(("b",), False, TRIES - 1)]


def test_what_had_died_in_an_earlier_run_is_not_begun() -> None:
    found = ledger(Group(("a", "b"), False), Group(("c",), True), died={"a": TRIES, "b": 1, "c": TRIES})
    assert sorted(each.test for each in found.refused()) == ["a", "c"]
    assert [group.tests for group in found.others] == [("b",)]
    assert not found.timed


@dataclass
class Played:
    """A whole sweep, with workers that die whenever chance says."""

    done: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    fates=st.lists(st.sampled_from(["fine", "before", "in it", "after", "node"]), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_every_test_is_done_or_given_up_once(sizes: list[int], fates: list[str]) -> None:
    names = iter(range(100))
    found = ledger(*(Group(tuple(f"t{next(names)}" for _ in range(size)), size % 2 == 0) for size in sizes))
    played, coming = Played(), iter(fates)
    while found:
        job = Job((found.timed or found.others).popleft())
        for test in job.group.tests:
            fate = next(coming, "fine")
            if fate == "before":
                played.given_up += [each.test for each in found.lost(job, "gone")]
                break
            job.begun(test)
            if fate in ("in it", "node"):
                played.given_up += [each.test for each in found.lost(job, "gone", blame=fate == "in it")]
                break
            job.ended(test)
            played.done.append(test)
            if fate == "after":
                played.given_up += [each.test for each in found.lost(job, "gone")]
                break
    assert sorted(played.done + played.given_up) == sorted(f"t{i}" for i in range(sum(sizes)))


@pytest.mark.parametrize("blame", [True, False])
def test_nothing_is_left_of_a_job_that_was_done(blame: bool) -> None:
    found = ledger()
    job = Job(Group(("a",), False))
    job.begun("a")
    job.ended("a")
    assert found.lost(job, "killed", blame) == []
    assert not found
