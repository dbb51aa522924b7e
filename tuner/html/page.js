"use strict";
/* What the page does: unpacks its data, filters, draws, tries another budget. */

const $ = (id) => document.getElementById(id);
const ORDER = new Intl.Collator("en", { numeric: true });
const page = { data: JSON.parse($("data").textContent), kept: null, answering: [] };

function unpack() {
  const { columns, rows, settings, texts } = page.data;
  const isText = new Set(["run", "workload", "mode", "model", "cell", "version", "precision", "checkpointing", "others", "unit", "outcome", "note"]);
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
  page.cells = [...new Set(page.rows.map((r) => r.cell))].sort(ORDER.compare);
  const lengths = page.rows.map((r) => r.length).filter((length) => length !== null);
  page.lengths = [Math.min(...lengths), Math.max(...lengths)];
  page.budgets = [...new Set(page.data.runs.map((run) => run.budget_mb))];
  page.largest_mb = Math.max(...page.budgets);
  page.budget_mb = page.largest_mb;
}

/* Filters. Modes do different work, so that one of them is always chosen. */

const FILTERS = ["run", "workload", "mode", "model", "cell", "version"];

function fillFilters() {
  const form = $("filters");
  for (const key of FILTERS) {
    const select = form.elements[key];
    const values = key === "model" ? page.models : [...new Set(page.rows.map((r) => r[key]))].filter(Boolean).sort(ORDER.compare);
    if (key === "mode") values.reverse();  // training first
    else select.append(new Option("all", ""));
    for (const value of values) select.append(new Option(value, value));
    select.parentElement.hidden = values.length < 2;
  }
  form.elements.unfit.parentElement.hidden = page.rows.every((r) => r.fits);
  // A plan has no progress, and many cards tell no energy: no filter would fill these then.
  $("progress").parentElement.hidden = page.rows.every((r) => r.predicted);
  $("versions").parentElement.hidden = page.versions.filter(Boolean).length < 2;
  $("energy").parentElement.hidden = !page.rows.some((r) => r.energy_mj !== null);
  $("ledgers").parentElement.hidden = !page.rows.some((r) => r.fits && r.ledger.length);
  $("batches").parentElement.hidden = !linesOfBatches(page.rows.filter((r) => r.fits)).length;
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
  draw("plot", mainPlot(rows, page.shown.filter((r) => !r.fits), page.kept, page.answering), MAIN_CONFIG);
  const place = $("plot");
  // Its tools have names; their icons are not read out beside these.
  for (const icon of document.querySelectorAll(".modebar svg, #js-plotly-tester")) icon.setAttribute("aria-hidden", "true");
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
  drawLater("heat", () => {
    $("heat").style.minWidth = `${90 + 46 * new Set(rows.map((r) => r.cell)).size}px`;  // or its figures cannot be read
    return rows.length ? heatMap(rows) : [[]];
  });
  $("heat-note").textContent = `${page.data.unit};`;
  drawLater("batches", () => {
    const [lines, described, count] = batchPlot(rows);
    $("batch-note").textContent = count > MOST_LINES ? `the ${MOST_LINES} longest of ${count} lines: choose a model, a ${cellTitle().toLowerCase()}` : "with the interval of each";
    return [lines, described];
  });
  drawLater("versions", () => versionPlot(rows));
  drawLater("ledgers", () => {
    const recommended = rows.filter((r) => r.recommended && r.ledger.length);
    return ledgerPlot(recommended.length ? recommended : rows.filter((r) => r.ledger.length).slice(0, 1));
  });
  drawLater("progress", () => progressPlot(rows));
  drawLater("energy", () => energyPlot(rows));
  if (page.kept?.ledger.length) draw("chosen-ledger", ledgerPlot([page.kept]));
  showTable();
  showBudget();
}

/* The plots further down are drawn when they come into view: of thousands of points each takes a while. */

const later = { due: new Map(), inView: new Set() };

function drawLater(id, make) {
  later.due.set(id, make);
  if (later.inView.has(id)) drawDue(id);
}

function drawDue(id) {
  const make = later.due.get(id);
  later.due.delete(id);
  if (make) draw(id, make());
}

function watchCharts() {
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      later.inView[isIntersecting ? "add" : "delete"](target.id);
      if (isIntersecting) drawDue(target.id);
    }
  }, { rootMargin: "300px" });
  for (const place of document.querySelectorAll("#charts .chart")) observer.observe(place);
}

/* Another budget. */

function tryBudget(mb) {
  page.budget_mb = Math.max(0, mb);
  $("budget").value = page.budget_mb;
  const place = $("plot"), models = [...(place.data ?? []).keys()].filter((index) => place.data[index].ids);
  const opacity = models.map((index) => place.data[index].customdata.map((row) => opacityOf(page.rows[row])));
  // The points stay where they are: thousands are not drawn anew for another look.
  if (models.length) Plotly.update(place, { "marker.opacity": opacity }, { shapes: mainShapes(page.shown.filter((r) => r.fits), page.kept) }, models);
  showBudget();
}

/* While the slider moves, a plot of many points stands still, and only the words follow. */
function slideBudget() {
  if (page.shown.length < 500) return tryBudget(Number($("budget").value));
  page.budget_mb = Number($("budget").value);
  showBudget();
}

function showBudget() {
  const text = `${wide.format(page.budget_mb)} MB${page.budgets.some((mb) => Math.abs(page.budget_mb - mb) < 1) ? " (this run's)" : ""}`;
  $("budget-text").textContent = text;
  $("budget").setAttribute("aria-valuetext", text);
  const fitting = page.shown.filter((r) => r.fits && r.needs_mb <= page.budget_mb);
  const table = document.createElement("table");
  table.createTHead().insertRow().append(...["Model", unit(), "Batch", cellTitle(), "Peak (MB)"].map((name) => made("th", name)));
  const body = table.createTBody();
  for (const [, own] of groups(fitting, labelOf)) {
    const row = best(own), cell = document.createElement("td"), link = made("button", labelOf(row));
    link.type = "button";
    link.addEventListener("click", () => keep(row, true));
    cell.append(link);
    body.insertRow().append(cell, ...[`${row.predicted ? "~" : ""}${wide.format(row.rate)}`, row.batch, row.cell, wide.format(row.peak_mb)].map((text) => made("td", text)));
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

/* For paper, whose width is another: what is drawn over an earlier plot keeps some of its places. */
function drawAnew(isWhole) {
  for (const place of document.querySelectorAll(".chart")) {
    if (place.on) Plotly.purge(place);
    place.isFollowed = false;
  }
  page.most_lines = isWhole ? Infinity : FIRST_LINES;
  show();
  if (isWhole) [...later.due.keys()].forEach(drawDue);
}

/* What a plot is, for who does not see it; the figures are in the table. */
function nameCharts() {
  for (const place of document.querySelectorAll("figure .chart")) {
    const name = place.parentElement.querySelector("figcaption").firstChild.textContent.trim();
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `${name}; the table below holds the same figures`);
  }
}

function start() {
  unpack();
  fillFilters();
  prepareTable();
  prepareGoals();
  nameCharts();
  watchCharts();
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
  addEventListener("beforeprint", () => drawAnew(true));
  addEventListener("afterprint", () => drawAnew(false));
}

if (page.data.rows.length) start();
