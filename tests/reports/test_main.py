"""The command line: what it writes, what it prints, and one line for every error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reports.__main__ import main
from tests.reports import builders

ROOT = Path(__file__).parents[2]
FEW = [("t", builders.latency()), ("q", builders.nll("bert", "l1", "layer", 0.5))]


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_the_report_of_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = builders.write(tmp_path / "run.json", builders.run_json())
    assert main([str(run)]) == 0
    page = tmp_path / "run-report" / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {page}"
    linked = re.findall(r"\]\(([^)]+\.(?:png|svg))\)", page.with_suffix(".md").read_text(encoding="utf-8"))
    assert len(linked) == len(set(linked)) > 20
    written = {path.name for path in page.parent.iterdir() if path.suffix in (".png", ".svg", ".md", ".html")}
    assert {*linked, "report.md", "report.html"} <= written


@pytest.mark.parametrize("files", [1, 2])
def test_each_figure_is_drawn_and_laid_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    laid_out: Counter[int] = Counter()
    execute = ConstrainedLayoutEngine.execute

    def counting(self: ConstrainedLayoutEngine, fig: Figure) -> object:
        laid_out[id(fig)] += 1
        kept.append(fig)
        return execute(self, fig)

    kept: list[Figure] = []  # so that no two have the same id
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counting)
    runs = [builders.write(tmp_path / f"{i}.json", builders.run_json([FEW[i]])) for i in range(files)]
    assert main([*map(str, runs)]) == 0
    assert set(laid_out.values()) == {1}
    assert len(laid_out) >= files


def test_out_is_made_and_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = builders.write(tmp_path / "run.json", builders.run_json(FEW))
    assert main([str(run), "--out", str(tmp_path / "deep" / "er")]) == 0
    assert (tmp_path / "deep" / "er" / "perplexity.svg").exists()
    assert not (tmp_path / "run-report").exists()
    assert "Report: " in capsys.readouterr().out


def test_several_files_make_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [builders.write(tmp_path / f"{i}.json", builders.run_json([each])) for i, each in enumerate(FEW)]
    assert main([str(path) for path in files]) == 0
    written = {path.name for path in (tmp_path / "0-report").glob("*.png")}
    assert {"required-time.png", "perplexity.png"} <= written
    assert "0-report" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in _error(capsys, str(tmp_path / "nowhere.json"))
    broken = tmp_path / "broken\nname.json"
    broken.write_text("{", encoding="utf-8")
    assert "not a JSON file" in _error(capsys, str(broken))
    run = str(builders.write(tmp_path / "run.json", builders.run_json(FEW)))
    assert "both hold" in _error(capsys, run, run)


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = builders.write(tmp_path / "run.json", builders.run_json(FEW))
    said = _error(capsys, str(run), "--out", str(run))
    assert f"{run}: cannot be written" in said
    assert "choose another --out" in said
    (tmp_path / "full" / "report.md").mkdir(parents=True)
    assert "report.md: cannot be written" in _error(capsys, str(run), "--out", str(tmp_path / "full"))


def test_nothing_is_written_for_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _error(capsys, str(tmp_path / "nowhere.json"), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["--nonsense", "x"]])
def test_wrong_options_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_file_without_records_ends_without_a_traceback(tmp_path: Path) -> None:
    path = builders.write(tmp_path / "empty.json", builders.run_json([]))
    done = _python("-m", "reports", str(path))
    assert done.returncode == 2
    assert done.stderr == f"error: {path}: no sparsity records in it; run pytest benchmarks with this suite\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['reports', '--help']\n"
        "try:\n    runpy.run_module('reports', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print('HEAVY', sorted({'torch', 'matplotlib', 'numpy', 'pytest'} & set(sys.modules)))\n"
    )
    done = _python("-c", code)
    assert "RUN.json" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_report_imports_no_torch(tmp_path: Path) -> None:
    run = builders.write(tmp_path / "run.json", builders.run_json(FEW))
    code = (
        "import sys\nfrom reports.__main__ import main\n"
        f"main([{str(run)!r}])\n"
        "print(sorted({'torch', 'pytest', 'benchmarks', 'matplotlib.pyplot'} & set(sys.modules)))\n"
        "print(sorted(m for m in sys.modules if m.startswith('sparsity.')))\n"
    )
    lines = _python("-c", code).stdout.splitlines()
    rooms = ["answers", "errors", "frontier", "gate_machines", "judging", "nodes", "pooling", "record", "recovery"]
    rooms += ["result_file", "rules", "strict_json", "timing", "validation"]
    assert lines[-2:] == ["[]", str([f"sparsity.{room}" for room in rooms])]


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
