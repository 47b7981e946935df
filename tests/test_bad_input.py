"""Bad input of every kind: a status that says so, one line that names what is wrong, and nothing written.

Each is typed into a copy of this process, which has imported what it needs: a process of its own takes seconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import pytest

from tests.bad_inputs import CASES, ENVIRONMENT, NO_HUB, ROOT, Answer, Case, answer, laid_out


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What most cases need, once for all of them."""
    for name in ("datasets", "transformers", "sparsity.models.hub", "jsonschema", "matplotlib.pyplot", "hypothesis"):
        importlib.import_module(name)


def no_hub() -> None:
    """Nothing listens there; the clients have read the environment when they were imported."""
    import datasets
    from huggingface_hub import constants

    constants.ENDPOINT = datasets.config.HF_ENDPOINT = NO_HUB
    constants.HUGGINGFACE_CO_URL_TEMPLATE = NO_HUB + "/{repo_id}/resolve/{revision}/{filename}"


def typed(case: Case) -> Answer:
    """The case in a copy of this process."""
    with laid_out(case) as (folder, before):
        output = folder.with_suffix(".output")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch, none of which the copy has
            process = os.fork()
        if process == 0:
            _become(case, folder, output)
        _, status = os.waitpid(process, 0)
        text = output.read_text()
        output.unlink()
        return answer(os.waitstatus_to_exitcode(status), text, folder, before)


def _become(case: Case, folder: Path, output: Path) -> None:
    """Is the program, and ends with its status."""
    status: object = 70
    gc.freeze()  # or the program would look for garbage in all that was copied, and so copy it for real
    with contextlib.suppress(BaseException), output.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115  # until the end
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        os.environ.update(ENVIRONMENT, PYTEST_CURRENT_TEST="")
        os.environ.pop("PYTEST_VERSION", None)
        no_hub()
        os.chdir(folder)
        sys.argv = list(case.words)
        sys.path.insert(0, str(ROOT))
        try:
            _forget(case.words[0])
            warnings.simplefilter("default")
            if case.words[0] == "pytest":
                status = int(pytest.main(list(case.words[1:])))
            else:
                runpy.run_module(case.words[0], run_name="__main__", alter_sys=True)
                status = 0
        except SystemExit as error:
            status = error.code
        except BaseException:
            traceback.print_exc()
    os._exit(status if isinstance(status, int) else 71)


def _forget(program: str) -> None:
    """Modules that a program of its own would not have: itself, and what pytest wants to import to rewrite it."""
    if program != "pytest":
        for name in (program, f"{program}.__main__"):
            sys.modules.pop(name, None)
    for name in [n for n in sys.modules if n.split(".")[0] in ("conftest", "benchmarks") or ".pytest_" in n]:
        del sys.modules[name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot copy a process")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_changes_nothing(case: Case) -> None:
    found = typed(case)
    assert not found.complaints(case), f"{found.complaints(case)}\n{found.output[-3000:]}"


def test_there_are_sixty_kinds_and_more() -> None:
    names = Counter(case.name for case in CASES)
    assert len(names) >= 60
    assert not [name for name, count in names.items() if count > 1]


def test_good_input_would_not_pass_for_bad() -> None:
    case = Case("good", ("reports", "--help"), "anything")
    assert typed(case).complaints(case)[0] == "status 0"
