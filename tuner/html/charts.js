"use strict";
/* The plots as plotly takes them: functions of the rows that pass the filters. page.js calls them. */

// Okabe and Ito's colours, which people with any colour vision tell apart; their yellow and black are not
// seen on both a light and a dark page, so a grey stands for them.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5A5A5A"];
const DARK_COLOURS = ["#4A9FDB", "#E69F00", "#1FBF92", "#CC79A7", "#8FD0F5", "#F07B35", "#E4E4E4"];
const SHAPES = ["circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon", "bowtie"];
const LINES = ["solid", "dash", "dot", "dashdot", "longdash"];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colourOf(index) {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;
  const colours = isDark ? DARK_COLOURS : COLOURS;
  return colours[index % colours.length];
}

function modelColour(model) {
  return colourOf(page.models.indexOf(model));
}

/* Rows by what `key` makes of them; models come in the order of their size. */
function groups(rows, key) {
  const found = new Map();
  rows = [...rows].sort((a, b) => page.models.indexOf(a.model) - page.models.indexOf(b.model) || a.index - b.index);
  for (const row of rows) {
    const name = key(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
}

function best(rows) {
  return rows.reduce((a, b) => (b.rate > a.rate ? b : a));
}

/* Shapes and dashes tell versions apart, and runs: never a colour alone. */
function styleOf(row) {
  return page.versions.indexOf(row.version) + page.versions.length * page.data.runs.indexOf(runOf(row));
}

function symbolOf(row) {
  return SHAPES[styleOf(row) % SHAPES.length] + (row.predicted ? "-open" : "");
}

const LEGEND = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } };

function layout(changes) {
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false, automargin: true };
  const { xaxis = {}, yaxis = {}, ...others } = changes;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
    margin: { l: 10, r: 12, t: 12, b: 10 },
    legend: LEGEND,
    hovermode: "closest",
    modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--mark") },
    ...others,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

function title(text) {
  return { title: { text, standoff: 8, font: { size: 12 } } };
}

function sizeOf(row) {
  const [least, most] = page.lengths;
  return most > least && row.length !== null ? 7 + (11 * Math.log(row.length / least)) / Math.log(most / least) : 11;
}

/* What does not fit the budget that is tried is faint. */
function opacityOf(row) {
  return row.needs_mb > page.budget_mb ? 0.18 : row.frontier ? 0.95 : 0.6;
}

function markers(rows) {
  return {
    symbol: rows.map(symbolOf),
    size: rows.map(sizeOf),
    opacity: rows.map(opacityOf),
    line: { width: rows.some((r) => r.predicted) ? 1.8 : 0.6, color: rows[0].predicted ? undefined : colour("--paper") },
  };
}

/* The budget's line, and a ring around what is kept: shapes, which are drawn anew without the points. */
function mainShapes(rows, kept) {
  // The first is the one that is dragged; runs of other budgets have lines that stand.
  const shapes = [page.budget_mb, ...(page.budgets.length > 1 ? page.budgets : [])].map((mb, index) => ({
    type: "line", x0: mb, x1: mb, y0: 0, y1: 1, yref: "paper", editable: index === 0,
    line: { color: colour("--warn"), width: index ? 1 : 3, dash: index ? "dot" : "dash" },
  }));
  if (kept && kept.rate !== null && rows.includes(kept)) {
    const r = sizeOf(kept) / 2 + 6, k = 0.5523 * r;  // four curves; plotly's own circle is none on a logarithmic axis
    shapes.push({
      type: "path", xsizemode: "pixel", ysizemode: "pixel", xanchor: kept.peak_mb, yanchor: kept.rate, editable: false,
      path: `M ${r},0 C ${r},${k} ${k},${r} 0,${r} C ${-k},${r} ${-r},${k} ${-r},0 C ${-r},${-k} ${-k},${-r} 0,${-r} C ${k},${-r} ${r},${-k} ${r},0 Z`,
      line: { color: colour("--ink"), width: 2.5 },
    });
  }
  return shapes;
}

/* The main plot: one trace a model; shapes, sizes and hollow points are told by entries without points. */
function mainPlot(rows, unfit, kept, answering) {
  const traces = [];
  for (const [model, own] of groups(rows, (r) => r.model)) {
    traces.push({
      type: "scatter", mode: "markers", name: plain(model), ids: own.map((r) => String(r.index)),
      x: own.map((r) => r.peak_mb), y: own.map((r) => r.rate), customdata: own.map((r) => r.index),
      hoverinfo: "text", hovertext: own.map(hoverOf),
      marker: { ...markers(own), color: modelColour(model) }, legendrank: 1 + page.models.indexOf(model),
    });
  }
  const floor = Math.min(...rows.map((r) => r.rate)) / 1.6;
  if (unfit.length) {
    traces.push({
      type: "scatter", mode: "markers", name: "did not fit, or failed", customdata: unfit.map((r) => r.index),
      x: unfit.map((r) => r.peak_mb ?? runOf(r).budget_mb), y: unfit.map(() => (Number.isFinite(floor) ? floor : 1)),
      hoverinfo: "text", hovertext: unfit.map(hoverOf), legendrank: 900,
      marker: { symbol: "x-thin", size: 10, line: { width: 2, color: colour("--warn") }, color: colour("--warn") },
    });
  }
  const marked = answering.filter((r) => rows.includes(r));
  if (marked.length) {
    traces.push({
      type: "scatter", mode: "markers", x: marked.map((r) => r.peak_mb), y: marked.map((r) => r.rate), hoverinfo: "skip",
      name: `ring: ${plain(page.goal)}`, legendrank: 700,
      marker: { symbol: "circle-open", size: marked.map((r) => sizeOf(r) + 9), color: colour("--mark"), line: { width: 2.5 } },
    });
  }
  const entry = (name, symbol, legendrank, size = 10) => traces.push({
    type: "scatter", mode: "markers", x: [null], y: [null], name, hoverinfo: "skip", legendrank,
    marker: { symbol, size, color: colour("--soft"), line: { width: 1.5 } },
  });
  for (const [style, some] of groups(rows, styleOf)) {
    const [{ version, run }] = some;
    const said = [run, version && `${version} kernels`].filter(Boolean).join(", ");
    if (said) entry(plain(said), symbolOf(some[0]), 500 + style);
  }
  if (rows.some((r) => r.predicted) && rows.some((r) => !r.predicted)) entry("hollow: predicted", "circle-open", 600);
  const most = Math.max(page.largest_mb, page.budget_mb, ...rows.map((r) => r.peak_mb), ...unfit.map((r) => r.peak_mb ?? 0));
  const least = Math.min(page.budget_mb, ...rows.map((r) => r.peak_mb));
  const room = Math.max((most - least) * 0.05, most * 0.01);
  return [traces, layout({
    xaxis: { ...title("Peak memory (MB)"), range: [least - room, most + room] },
    yaxis: { ...title(`${unit()}, larger is better`), type: "log", dtick: "D2", tickformat: "~s", exponentformat: "none" },
    shapes: mainShapes(rows, kept),
    uirevision: "main",
    legend: innerWidth > 520 ? LEGEND : { ...LEGEND, entrywidth: 0.48, entrywidthmode: "fraction" },
    margin: { l: 10, r: 40, t: 12, b: 10 },
  })];
}

function heatMap(rows) {
  const labels = [...groups(rows, labelOf).keys()];
  const columns = page.cells.filter((cell) => rows.some((r) => r.cell === cell));
  const cells = new Map([...groups(rows, (r) => `${labelOf(r)}\n${r.cell}`)].map(([key, own]) => [key, best(own)]));
  const table = (value) => labels.map((m) => columns.map((c) => { const r = cells.get(`${m}\n${c}`); return r ? value(r) : null; }));
  return [[{
    type: "heatmap", x: columns.map((c) => plain(c) || "all"), y: labels.map(plain), z: table((r) => Math.log10(r.rate)), xgap: 2, ygap: 2,
    customdata: table((r) => r.index), hoverinfo: "text", hovertext: table(hoverOf), hoverongaps: false,
    text: table((r) => (r.predicted ? "~" : "") + narrow.format(r.rate)).map((line) => line.map((text) => text ?? "")),
    texttemplate: "%{text}", colorscale: "Cividis", showscale: false,
  }], layout({ xaxis: { ...title(plain(cellTitle())), type: "category", showgrid: false }, yaxis: { type: "category", showgrid: false } })];
}

const MOST_LINES = 7;

/* What all batches of a line share, in words. */
function lineWords(row) {
  return [labelOf(row), row.cell, row.version, row.others, row.precision, checkpointingOf(row)];
}

/* Configurations that differ in their batch alone, the longest first; of each there are several. */
function linesOfBatches(rows) {
  const lines = [...groups(rows, (r) => lineWords(r).join("\n")).values()];
  return lines.filter((own) => new Set(own.map((r) => r.batch)).size > 1).sort((a, b) => b.length - a.length);
}

function batchPlot(rows) {
  const lines = linesOfBatches(rows), shown = lines.slice(0, MOST_LINES);
  const words = shown.map(([row]) => lineWords(row));
  const isOne = new Set(shown.map(([row]) => row.model)).size < 2;
  // Of several lines a name says only what not all of them share.
  const name = (own) => own.filter((word, place) => word && (words.length < 2 || words.some((other) => other[place] !== word))).join(", ");
  const traces = shown.map((own, index) => {
    own.sort((a, b) => a.batch - b.batch);
    const first = own[0];
    return {
      type: "scatter", mode: "lines+markers", name: plain(name(words[index])),
      x: own.map((r) => r.batch), y: own.map((r) => r.rate), customdata: own.map((r) => r.index),
      error_y: { type: "data", symmetric: false, array: own.map((r) => r.high - r.rate), arrayminus: own.map((r) => r.rate - r.low), thickness: 1, width: 3 },
      hoverinfo: "text", hovertext: own.map(hoverOf),
      line: { color: isOne ? colourOf(index) : modelColour(first.model), dash: LINES[styleOf(first) % LINES.length], width: 1.6 },
      marker: { symbol: symbolOf(first), size: 7 },
    };
  });
  return [traces, layout({ showlegend: true, xaxis: { ...title("Batch"), type: "log", dtick: "D2" }, yaxis: { ...title(unit()), type: "log", dtick: "D2", tickformat: "~s" } }), lines.length];
}

function versionPlot(rows) {
  const cells = [...groups(rows, (r) => [labelOf(r), r.cell].filter(Boolean).join(", "))].filter(([, own]) => new Set(own.map((r) => r.version)).size > 1).slice(0, 16);
  const traces = page.versions.map((version, index) => {
    const found = cells.map(([name, own]) => [name, own.filter((r) => r.version === version)]).filter(([, own]) => own.length).map(([name, own]) => [name, best(own)]);
    return {
      type: "bar", name: plain(version), x: found.map(([name]) => plain(name)), y: found.map(([, r]) => r.rate),
      customdata: found.map(([, r]) => r.index), hoverinfo: "text", hovertext: found.map(([, r]) => hoverOf(r)),
      error_y: { type: "data", symmetric: false, array: found.map(([, r]) => r.high - r.rate), arrayminus: found.map(([, r]) => r.rate - r.low), thickness: 1 },
      marker: { color: COLOURS[index % COLOURS.length], pattern: { shape: ["", "/", "x", ".", "-"][index % 5], solidity: 0.2 } },
    };
  }).filter((trace) => trace.x.length);
  return [traces, layout({ barmode: "group", bargap: Math.max(0.25, 1 - 0.18 * cells.length), xaxis: { type: "category" }, yaxis: { ...title(unit()), tickformat: "~s" } })];
}

/* Stacked bars of what the memory is made of; rows without a ledger are left out. */
function ledgerPlot(rows) {
  rows = [...rows].sort((a, b) => page.models.indexOf(a.model) - page.models.indexOf(b.model));
  const parts = [...new Set(rows.flatMap((r) => r.ledger.map(([name]) => name)))];
  const traces = parts.map((part, index) => {
    const sizes = rows.map((r) => r.ledger.find(([name]) => name === part)?.[1] ?? 0);
    return {
      type: "bar", orientation: "h", name: plain(part), y: rows.map((r) => plain(labelOf(r))), x: sizes, customdata: rows.map((r) => r.index),
      hoverinfo: "text", hovertext: sizes.map((mb) => `${plain(part)}: ${fine.format(mb)} MB`),
      marker: { color: COLOURS[index % COLOURS.length], pattern: { shape: ["", "/", "."][Math.floor(index / COLOURS.length) % 3] } },
    };
  }).filter((trace) => trace.x.some((mb) => mb > 0));
  return [traces, layout({
    barmode: "stack", xaxis: title("MB, up to the budget"), yaxis: { type: "category" }, legend: { ...LEGEND, traceorder: "normal" },
    shapes: [...new Set(rows.map((r) => runOf(r).budget_mb))].map((mb) => ({
      type: "line", x0: mb, x1: mb, y0: 0, y1: 1, yref: "paper", line: { color: colour("--warn"), width: 2, dash: "dash" },
    })),
  })];
}

/* The share of the volume that the frontier dominates in the end, and what each model's best was by then. */
function progressPlot(rows) {
  const timed = rows.filter((r) => r.minutes !== null && !r.predicted).sort((a, b) => a.minutes - b.minutes);
  const ends = [...page.data.runs.flatMap((run) => run.progress.map(([minutes]) => minutes)), ...timed.map((r) => r.minutes)];
  const end = Math.max(0, ...ends), traces = [];
  if (!end) return [[]];
  const line = (name, steps, look) => traces.push({
    type: "scatter", mode: "lines", name: plain(name), line: { shape: "hv", ...look }, hovertemplate: "%{y:.1f} % at %{x:.1f} min",
    x: [steps[0][0], ...steps.map(([minutes]) => minutes), end], y: [0, ...steps.map(([, share]) => 100 * share), 100],
  });
  for (const [index, run] of page.data.runs.entries()) {
    if (run.progress.length) {
      line(["frontier of all", run.name].filter(Boolean).join(", "), [[0, 0], ...run.progress], { color: colour("--ink"), width: 3, dash: LINES[index] });
    }
  }
  for (const [label, own] of groups(timed, labelOf)) {
    own.sort((a, b) => a.minutes - b.minutes);
    const most = best(own).rate;
    let reached = 0;
    const steps = own.map((r) => [r.minutes, (reached = Math.max(reached, r.rate)) / most]);
    line(label, steps, { color: modelColour(own[0].model), width: 1.5, dash: LINES[page.data.runs.indexOf(runOf(own[0]))] });
  }
  return [traces, layout({ xaxis: title("Minutes since the first began"), yaxis: title("% of what it came to") })];
}

function energyPlot(rows) {
  const traces = [...groups(rows.filter((r) => r.energy_mj !== null), (r) => r.model)].map(([model, own]) => ({
    type: "scatter", mode: "markers", name: plain(model), x: own.map((r) => r.rate), y: own.map((r) => r.energy_mj), customdata: own.map((r) => r.index),
    hoverinfo: "text", hovertext: own.map((r) => `${hoverOf(r)}<br>${fine.format(r.energy_mj)} mJ/${plain(itemOf(r))}`), marker: { ...markers(own), color: modelColour(model) },
  }));
  return [traces, layout({ xaxis: { ...title(unit()), type: "log", dtick: "D2", tickformat: "~s" }, yaxis: { ...title(`mJ/${plain(itemOf({ unit: page.data.unit }))}`), type: "log", dtick: "D2", tickformat: "~g" } })];
}
