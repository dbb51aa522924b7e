"use strict";
/* What the page does: unpacks its data, filters, sorts, keeps a configuration, tries another budget. */

const $ = (id) => document.getElementById(id);
const page = { data: JSON.parse($("data").textContent), kept: null, sort: null };

function unpack() {
  const { columns, rows, settings, texts } = page.data;
  const isText = new Set(["workload", "mode", "model", "version", "precision", "others", "outcome", "note"]);
  page.rows = rows.map((cells, index) => {
    const row = { index };
    columns.forEach((name, place) => { row[name] = isText.has(name) ? texts[cells[place]] : cells[place]; });
    const ledger = [];
    for (let place = 0; place < row.ledger.length; place += 2) ledger.push([texts[row.ledger[place]], row.ledger[place + 1]]);
    row.ledger = ledger;
    row.settings = settings[row.settings].map((line) => texts[line]);
    return row;
  });
  const sizes = new Map();
  for (const row of page.rows) sizes.set(row.model, Math.min(sizes.get(row.model) ?? Infinity, row.parameters ?? Infinity));
  page.models = [...sizes.keys()].sort((a, b) => sizes.get(a) - sizes.get(b) || (a < b ? -1 : 1));
  page.versions = [...new Set(page.rows.map((r) => r.version))].sort();
  const sequences = page.rows.map((r) => r.sequence);
  page.sequences = [Math.min(...sequences), Math.max(...sequences)];
  page.budget_mb = page.data.budget_mb;
}

/* Filters. Modes do different work, so that one of them is always chosen. */

const FILTERS = ["workload", "mode", "model", "sequence", "version"];

function fillFilters() {
  const form = $("filters");
  for (const key of FILTERS) {
    const select = form.elements[key];
    const values = key === "model" ? page.models : [...new Set(page.rows.map((r) => r[key]))].sort((a, b) => (key === "sequence" ? a - b : a < b ? 1 : -1));
    if (key !== "mode") select.append(new Option("all", ""));
    for (const value of values) select.append(new Option(value, value));
    select.parentElement.hidden = values.length < 2 && (key === "mode" || key === "workload");
  }
  form.elements.unfit.parentElement.hidden = page.rows.every((r) => r.fits);
  // A plan has no progress, and many cards tell no energy: no filter would fill these then.
  $("progress").parentElement.hidden = page.rows.every((r) => r.predicted);
  $("energy").parentElement.hidden = !page.rows.some((r) => r.energy_mj !== null);
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function passes(row) {
  const { elements } = $("filters");
  return FILTERS.every((key) => !elements[key].value || String(row[key]) === elements[key].value)
    && (!elements.frontier.checked || row.frontier || !row.fits) && (elements.unfit.checked || row.fits);
}

/* Plots. */

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };
const MAIN_CONFIG = {
  ...CONFIG, displayModeBar: true, edits: { shapePosition: true },
  modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
};

function draw(id, [traces, described], config = CONFIG) {
  const place = $(id);
  if (!traces.length) {
    Plotly.purge(place);
    place.innerHTML = "";
    const said = document.createElement("div");
    said.className = "empty";
    said.textContent = "Nothing of that kind was recorded for this choice.";
    place.append(said);
    return;
  }
  place.querySelector(".empty")?.remove();
  const isNew = !place.on;
  Plotly.react(place, traces, described, config);
  if (isNew) place.on("plotly_click", ({ points: [point] }) => { if (point.customdata !== undefined) keep(page.rows[point.customdata], true); });
}

function drawMain() {
  const rows = page.shown.filter((r) => r.fits);
  draw("plot", mainPlot(rows, page.shown.filter((r) => !r.fits), page.kept), MAIN_CONFIG);
  const place = $("plot");
  if (place.on && !place.isFollowed) {
    place.isFollowed = true;
    place.on("plotly_relayout", (change) => {
      const ends = ["shapes[0].x0", "shapes[0].x1"].filter((name) => name in change).map((name) => change[name]);
      const moved = ends.reduce((a, b) => a + b, 0) / ends.length;
      if (ends.length && moved !== page.budget_mb) tryBudget(moved);
    });
  }
}

function show() {
  page.shown = page.rows.filter(passes);
  const rows = page.shown.filter((r) => r.fits);
  drawMain();
  draw("heat", rows.length ? heatMap(rows) : [[]]);
  const [lines, described, count] = batchPlot(rows);
  $("batch-note").textContent = count > MOST_LINES ? `the ${MOST_LINES} longest of ${count} lines: choose a model, a sequence` : "with the interval of each";
  draw("batches", [lines, described]);
  draw("versions", versionPlot(rows));
  const recommended = rows.filter((r) => r.recommended && r.ledger.length);
  draw("ledgers", ledgerPlot(recommended.length ? recommended : rows.filter((r) => r.ledger.length).slice(0, 1)));
  draw("progress", progressPlot(rows));
  draw("energy", energyPlot(rows));
  if (page.kept?.ledger.length) draw("chosen-ledger", ledgerPlot([page.kept]));
  showTable();
  showBudget();
}

/* Another budget. */

function tryBudget(mb) {
  page.budget_mb = Math.max(0, mb);
  $("budget").value = page.budget_mb;
  drawMain();
  showBudget();
}

/* While the slider moves, a plot of many points stands still, and only the words follow. */
function slideBudget() {
  if (page.shown.length < 500) return tryBudget(Number($("budget").value));
  page.budget_mb = Number($("budget").value);
  showBudget();
}

function showBudget() {
  const text = `${wide.format(page.budget_mb)} MB${Math.abs(page.budget_mb - page.data.budget_mb) < 1 ? " (this run's)" : ""}`;
  $("budget-text").textContent = text;
  $("budget").setAttribute("aria-valuetext", text);
  const fitting = page.shown.filter((r) => r.fits && r.needs_mb <= page.budget_mb);
  const table = document.createElement("table");
  table.createTHead().insertRow().append(...["Model", unit(), "Batch×sequence", "Peak (MB)"].map((name) => made("th", name)));
  const body = table.createTBody();
  for (const [, own] of groups(fitting, (r) => r.model)) {
    const row = best(own), cell = document.createElement("td"), link = made("button", row.model);
    link.type = "button";
    link.addEventListener("click", () => keep(row, true));
    cell.append(link);
    body.insertRow().append(cell, ...[`${row.predicted ? "~" : ""}${wide.format(row.rate)}`, `${row.batch}×${row.sequence}`, wide.format(row.peak_mb)].map((text) => made("td", text)));
  }
  const held = document.createElement("div");
  held.className = "scroll";
  held.append(table);
  const within = `${wide.format(page.budget_mb)} MB`;
  $("what-if").replaceChildren(...(fitting.length
    ? [`The fastest of each model within ${within}, of what the plot shows; choose one for its settings:`, held]
    : [`Nothing that the plot shows fits in ${within}.`]));
}

function made(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/* One configuration. */

function settingsFile(row) {
  const notes = [
    `# throughput: ~${wide.format(row.rate)} tokens/s${row.predicted ? ` (predicted; ${wide.format(row.low)} to ${wide.format(row.high)} in nine of ten)` : ""}`,
    `# memory: ~${wide.format(row.peak_mb)} MB${row.predicted ? ` (predicted; up to ${wide.format(row.needs_mb)} with its margin)` : ""}`,
    `# ${row.predicted ? "predicted for" : "measured on"} ${page.data.device}, training, under a budget of ${page.data.budget}`,
  ];
  return row.settings.flatMap((line) => (line === "batch_size: {}" ? [`batch_size: ${row.batch}`, ...notes] : [line])).join("\n") + "\n";
}

function keep(row, isAsked) {
  page.kept = row;
  const facts = [
    ["Model", `${row.model}${row.parameters === null ? "" : `, ${wide.format(row.parameters)} parameters`}`],
    ["Batch × sequence", `${row.batch} × ${row.sequence}`], ["Kernels", row.version], ["Precision", row.precision],
    ["Checkpointing", row.checkpointing ? "yes" : "no"], ["Mode", row.mode], ["Workload", row.workload], ["Throughput", rateOf(row)],
    ["Peak memory", row.peak_mb === null ? "not known" : `${wide.format(row.peak_mb)} MB${row.needs_mb > row.peak_mb ? `, ${wide.format(row.needs_mb)} with its margin` : ""}`],
    ["Energy", row.energy_mj === null ? "" : `${fine.format(row.energy_mj)} mJ a token`],
    ["Outcome", row.fits ? (row.predicted ? "predicted to fit" : "measured") : row.outcome.replaceAll("_", " ")],
    ["Said", row.note], ["Digest", row.digest],
  ];
  $("chosen-facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  $("chosen-title").textContent = `${row.model} ${row.batch}×${row.sequence}, ${settingsOf(row)}`;
  $("yaml").textContent = row.settings.length ? settingsFile(row) : "# phase8-train takes no settings of this kind";
  $("copied").textContent = "";
  $("chosen").hidden = false;
  $("chosen-figure").hidden = !row.ledger.length;
  if (row.ledger.length) draw("chosen-ledger", ledgerPlot([row]));
  for (const line of document.querySelectorAll('#table tr[aria-selected="true"]')) line.removeAttribute("aria-selected");
  page.lines[row.index].setAttribute("aria-selected", "true");
  if (isAsked) {
    drawMain();
    $("chosen-title").focus({ preventScroll: true });
    $("chosen").scrollIntoView({ block: "nearest" });
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("yaml").textContent);
    $("copied").textContent = "Copied";
  } catch {  // a browser that keeps its clipboard to itself
    getSelection().selectAllChildren($("yaml"));
    $("copied").textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  }
}

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
  const rank = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : (a < b ? -1 : 1) * (isDown ? -1 : 1));
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

/* For paper, whose width is another: what is drawn over an earlier plot keeps some of its places. */
function drawAnew() {
  for (const place of document.querySelectorAll(".chart")) {
    if (place.on) Plotly.purge(place);
    place.isFollowed = false;
  }
  show();
}

function start() {
  unpack();
  fillFilters();
  prepareTable();
  const slider = $("budget");
  const peaks = page.rows.map((r) => r.needs_mb ?? 0);
  slider.min = Math.floor(Math.min(...peaks.filter((mb) => mb > 0), page.budget_mb) * 0.95);
  slider.max = Math.ceil(Math.max(page.budget_mb, ...peaks) * 1.02);
  slider.value = page.budget_mb;
  slider.addEventListener("input", slideBudget);
  slider.addEventListener("change", () => tryBudget(Number(slider.value)));
  $("copy").addEventListener("click", copy);
  document.documentElement.classList.add("ready");
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  addEventListener("beforeprint", drawAnew);
  addEventListener("afterprint", drawAnew);
}

if (page.data.rows.length) start();
