"use strict";
/* The table: its rows are in the page; here they are hidden, put in order and walked through. */

const FIRST_LINES = 500;  // more of them as one scrolls: a browser lays out a whole table at once

function prepareTable() {
  page.lines = [...$("table").tBodies[0].rows];
  page.ordered = page.lines;
  page.most_lines = FIRST_LINES;
  const held = $("table").parentElement;
  held.addEventListener("scroll", () => { if (held.scrollTop + 2 * held.clientHeight > held.scrollHeight) showMore(); });
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

/* Whether there were any. */
function showMore() {
  if (page.most_lines >= page.shown.length) return false;
  page.most_lines += FIRST_LINES;
  showTable();
  return true;
}

function walk(line, direction) {
  const find = () => {
    let next = line[direction];
    while (next?.hidden) next = next[direction];
    return next;
  };
  const next = find() ?? (direction === "nextElementSibling" && showMore() ? find() : null);
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
  page.ordered = [...page.lines].sort((a, b) => rank(value(a), value(b)) || a.dataset.i - b.dataset.i);
  page.lines.forEach((line) => { line.hidden = true; });
  $("table").tBodies[0].append(...page.ordered);
  showTable();
}

function showTable() {
  const shown = new Set(page.shown.map((r) => r.index));
  let count = 0;
  for (const line of page.ordered) {
    const isShown = shown.has(Number(line.dataset.i)) && count < page.most_lines;
    if (line.hidden === isShown) line.hidden = !isShown;
    line.tabIndex = isShown && count === 0 ? 0 : -1;
    count += isShown;
  }
  $("count").textContent = `${wide.format(shown.size)} shown${count < shown.size ? ", the first of them at once and more as you scroll" : ""}.`;
}
