// The table of verdicts, sorted and filtered in place. Without this script it is the same table, in the order measured.
"use strict";
(() => {
  const MISSING = "–";

  const sideways = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  window.addEventListener("resize", sideways);
  window.addEventListener("load", sideways);

  const table = document.getElementById("verdict-table");
  if (!table) return;
  const byId = (id) => document.getElementById(id);
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[1].cells];
  const rows = [...body.rows].map((row) => ({
    row,
    cells: [...row.cells],
    text: row.textContent.toLowerCase(),
  }));

  // -- sorting: what is missing stays at the end, whichever way round

  const collator = new Intl.Collator("en", { numeric: true });
  const key = (cell, numeric) => {
    if (numeric) return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
    return cell.textContent === MISSING ? null : cell.textContent;
  };

  const sort = (index) => {
    const head = heads[index];
    const descending = head.ariaSort === "ascending";
    const numeric = head.dataset.kind === "number";
    const compare = numeric ? (a, b) => a - b : collator.compare;
    const keyed = rows.map((each) => [key(each.cells[index], numeric), each.row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    body.append(...keyed.map(([, row]) => row));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };

  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(index));
    head.append(button);
  });

  // -- filters: all of them hold at once

  const column = (name) => heads.findIndex((head) => head.textContent === name);
  const shown = (cell) => (cell.firstElementChild || cell).textContent;
  const distinct = (index) =>
    [...new Set(rows.map(({ cells }) => shown(cells[index])))].filter((text) => text !== MISSING).sort(collator.compare);
  const option = (text, value) => new Option(text, value);

  const model = byId("model");
  const format = byId("format");
  const verdict = byId("verdict");
  const [models, formats] = [column("model"), column("format")];
  model.append(...distinct(models).map((text) => option(text, text)));
  if (formats < 0) format.parentElement.hidden = true;
  else format.append(...distinct(formats).map((text) => option(text, text)));
  heads.forEach((head, index) => {
    if (head.dataset.kind !== "verdict") return;
    const group = document.createElement("optgroup");
    group.label = head.dataset.group;
    group.append(...distinct(index).map((text) => option(`${head.dataset.group}: ${text}`, `${index} ${text}`)));
    verdict.append(group);
  });

  const filter = () => {
    const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [place, ...said] = verdict.value.split(" ");
    let count = 0;
    for (const { row, cells, text } of rows) {
      const passes =
        words.every((word) => text.includes(word)) &&
        (!model.value || shown(cells[models]) === model.value) &&
        (!format.value || shown(cells[formats]) === format.value) &&
        (!verdict.value || shown(cells[Number(place)]) === said.join(" "));
      row.hidden = !passes;
      count += passes;
    }
    byId("count").textContent = `${count} of ${rows.length} rows`;
  };

  const form = byId("filters");
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter)); // once the fields are empty
  filter(); // a browser may keep what was in the fields when a page is loaded again

  // -- on its way to the right, the first column says more of the row

  const box = table.parentElement;
  box.addEventListener("scroll", () => box.classList.toggle("scrolled", box.scrollLeft > 0), { passive: true });
})();
