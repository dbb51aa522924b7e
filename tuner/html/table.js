"use strict";
/* The table: its rows are in the page; here they are hidden, put in order and walked through. */

function prepareTable() {
  page.lines = [...$("table").tBodies[0].rows];
  page.lines.forEach((line) => { line.tabIndex = -1; });
  for (const head of $("table").tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sortBy(head));
  }
  const body = $("table").tBodies[0];
  body.addEventListener("click", ({ target }) => { const line = target.closest("tr"); if (line) keep(page.rows[line.dataset.i], true); });
  body.addEventListener("keydown", (event) => {
    const line = event.target.closest("tr");
    if (event.key === "Enter" || event.key === " ") keep(page.rows[line.dataset.i], true);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") walk(line, event.key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling");
    else return;
    event.preventDefault();
  });
}

function walk(line, direction) {
  let next = line[direction];
  while (next?.hidden) next = next[direction];
  if (!next) return;
  line.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function sortBy(head) {
  const key = head.dataset.key, isDown = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const value = (line) => page.rows[line.dataset.i][key];
  const isBefore = (a, b) => (typeof a === "string" ? ORDER.compare(a, b) < 0 : a < b);
  const isEmpty = (a) => a === null || a === "";
  const rank = (a, b) => (a === b ? 0 : isEmpty(a) ? 1 : isEmpty(b) ? -1 : (isBefore(a, b) ? -1 : 1) * (isDown ? -1 : 1));
  $("table").tBodies[0].append(...[...page.lines].sort((a, b) => rank(value(a), value(b)) || a.dataset.i - b.dataset.i));
}

function showTable() {
  const shown = new Set(page.shown.map((r) => r.index));
  let first = null;
  for (const line of page.lines) {
    line.hidden = !shown.has(Number(line.dataset.i));
    line.tabIndex = -1;
    if (!line.hidden) first ??= line;
  }
  if (first) first.tabIndex = 0;
  $("count").textContent = `${wide.format(shown.size)} shown.`;
}
