"""The page in a browser: sorted, filtered, narrow and wide, light and dark, printed, and quick.

Skips without playwright or a Chromium. Nothing is fetched: a request for anything but the file fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports.__main__ import report
from tests.reports import builders

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
LONGEST = 5.0
"""Seconds until a page can be used; generous, for a machine that does much else."""
LARGEST = 3_000_000
"""Bytes of a page with some hundred cells."""
RUNS = {"usual": builders.run_json, "many": builders.many_json, "hostile": builders.hostile_json}
READY = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `browser`")
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(CHROMIUMS)}")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of a run by its name, each written once."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def write(name: str) -> Path:
        return report([builders.write(folder / f"{name}.json", RUNS[name]())])

    return write


@pytest.fixture
def opened(browser: Browser, written: Callable[[str], Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of the run that the test names, else of the usual one; fails on errors and on requests."""
    path = written(getattr(request, "param", "usual"))
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url not in (path.as_uri(), "data:,") else None)
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert wrong == []


def column(page: Page, heading: str, group: str = "") -> list[str]:
    """What a reader sees in a column of the table of verdicts, from the top."""
    found: list[str] = page.evaluate(
        """([heading, group]) => {
            const table = document.getElementById("verdict-table");
            const heads = [...table.tHead.rows[1].cells];
            const place = heads.findIndex(
                (head) => head.textContent === heading && (!group || head.dataset.group === group));
            const rows = [...table.tBodies[0].rows].filter((row) => row.offsetHeight);
            return rows.map((row) => (row.cells[place].firstElementChild || row.cells[place]).textContent);
        }""",
        [heading, group],
    )
    return found


def counted(page: Page) -> str:
    found: str = page.locator("#count").inner_text()
    return found


def head(page: Page, name: str) -> str | None:
    found: str | None = page.get_by_role("columnheader", name=name, exact=True).first.get_attribute("aria-sort")
    return found


def test_a_header_sorts_up_and_then_down_and_what_is_missing_stays_last(opened: Page) -> None:
    before = column(opened, "times faster")
    button = opened.get_by_role("button", name="times faster", exact=True)
    button.click()
    up = column(opened, "times faster")
    assert head(opened, "times faster") == "ascending"
    button.click()
    down = column(opened, "times faster")
    assert head(opened, "times faster") == "descending"
    known = [float(text) for text in up if text != "–"]
    assert known == sorted(known)
    assert len(set(known)) > 5
    assert [text for text in down if text != "–"] == [text for text in up if text != "–"][::-1]
    assert up[len(known) :] == down[len(known) :] == ["–"] * (len(before) - len(known))
    assert sorted(up) == sorted(before)


def test_negative_numbers_are_sorted_as_numbers(opened: Page) -> None:
    opened.get_by_role("button", name="difference", exact=True).first.click()
    values = [float(text.replace("−", "-")) for text in column(opened, "difference") if text != "–"]
    assert values == sorted(values)
    assert values[0] < -10


def test_headers_are_reached_and_pressed_by_keyboard(opened: Page) -> None:
    opened.get_by_role("button", name="model", exact=True).focus()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "method"
    opened.keyboard.press("Enter")
    assert head(opened, "method") == "ascending"
    opened.keyboard.press("Space")
    assert head(opened, "method") == "descending"
    found = column(opened, "method")
    assert found == sorted(found, reverse=True)
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_filters_hold_at_once_and_are_counted(opened: Page) -> None:
    total = len(column(opened, "model"))
    assert counted(opened) == f"{total} of {total} rows"
    opened.get_by_role("searchbox", name="Words in the row", exact=True).fill("l1 global")
    assert set(column(opened, "scope")) == {"global"}
    opened.get_by_role("searchbox", name="Words in the row", exact=True).fill("")
    opened.get_by_role("combobox", name="Model", exact=True).select_option("gpt2")
    opened.get_by_role("combobox", name="Format", exact=True).select_option("masked")
    assert set(column(opened, "model")) == {"gpt2"}
    assert counted(opened) == f"5 of {total} rows"
    opened.get_by_role("combobox", name="Verdict", exact=True).select_option("time: slower")
    assert set(column(opened, "verdict", "time")) == {"slower"}
    opened.get_by_role("searchbox", name="Words in the row", exact=True).fill("no such words")
    assert counted(opened) == f"0 of {total} rows"
    opened.get_by_role("button", name="Show all").click()
    opened.wait_for_function(f"document.getElementById('count').textContent === '{total} of {total} rows'")
    assert len(column(opened, "model")) == total


def test_a_sorted_table_stays_sorted_when_it_is_filtered(opened: Page) -> None:
    opened.get_by_role("button", name="sparsity", exact=True).click()
    opened.get_by_role("combobox", name="Verdict", exact=True).select_option("time: slower")
    found = [float(text) for text in column(opened, "sparsity")]
    assert found == sorted(found)
    assert set(column(opened, "verdict", "time")) == {"slower"}


@pytest.mark.parametrize("width", [360, 768, 1600])
@pytest.mark.parametrize("opened", ["usual", pytest.param("many", marks=pytest.mark.slow), "hostile"], indirect=True)
def test_the_page_itself_never_scrolls_sideways(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.locator(".tall")
    box.evaluate("box => { box.scrollLeft = 500; }")
    first = box.locator("tbody th").first.bounding_box()
    around = box.bounding_box()
    assert first is not None
    assert around is not None
    assert first["x"] == pytest.approx(around["x"], abs=2), "the first column stays"


def test_dark_is_another_ground_and_other_figures(opened: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    drawing = "getComputedStyle(document.querySelector('.drawing')).filter"
    opened.emulate_media(color_scheme="light")
    light = opened.evaluate(f"[{ground}, {drawing}]")
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(f"[{ground}, {drawing}]")
    assert light == ["rgb(255, 255, 255)", "none"]
    assert dark[0] == "rgb(20, 20, 20)"
    assert dark[1] != "none"


def test_print_hides_what_paper_cannot_do_and_cuts_nothing_off(opened: Page) -> None:
    assert opened.locator("#filters").is_visible()
    opened.emulate_media(media="print")
    assert not opened.locator("#filters").is_visible()
    assert not opened.locator("nav").is_visible()
    assert opened.locator("#count").is_visible(), "says so where rows are filtered away"
    assert opened.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"


def test_without_the_script_the_table_is_there_and_its_controls_are_not(
    browser: Browser, written: Callable[[str], Path]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written("usual").as_uri())
    assert not page.locator("#filters").is_visible()
    assert page.locator("#verdict-table tbody tr").first.is_visible()
    assert page.locator("#verdict-table button").count() == 0
    context.close()


@pytest.mark.parametrize("opened", ["hostile"], indirect=True)
def test_a_hostile_run_runs_nothing(opened: Page) -> None:
    assert opened.locator("script").count() == 1
    assert opened.locator("img").count() == 0
    opened.get_by_role("combobox", name="Model", exact=True).select_option(builders.EVIL.replace("\n\n", " "))
    opened.get_by_role("combobox", name="Format", exact=True).select_option(index=1)
    assert counted(opened).startswith("1 of ")
    opened.get_by_role("button", name="model", exact=True).click()


@pytest.mark.slow
@pytest.mark.parametrize("opened", ["many"], indirect=True)
def test_many_cells_are_quick_and_light(opened: Page, written: Callable[[str], Path]) -> None:
    size = written("many").stat().st_size
    ready = float(opened.evaluate(READY)) / 1000
    took = (
        "() => { const began = performance.now(); ACT; document.body.offsetHeight; return performance.now() - began; }"
    )
    sorting = opened.evaluate(took.replace("ACT", "document.querySelectorAll('#verdict-table button')[8].click()"))
    filtering = opened.evaluate(
        took.replace("ACT", "words.value = 'csr'; words.dispatchEvent(new Event('input', { bubbles: true }))")
    )
    rows = opened.locator("#verdict-table tbody tr").count()
    print(
        f"{rows} rows, {size / 1e6:.2f} MB, ready {ready:.3f} s, sorted {sorting:.0f} ms, filtered {filtering:.0f} ms"
    )
    assert rows >= 500
    assert size < LARGEST
    assert ready < LONGEST
    assert max(sorting, filtering) < 1000 * LONGEST
    assert counted(opened) == f"90 of {rows} rows"
