"use strict";
/* How rows are said: what they are called, their figures, what a pointer shows. */

const wide = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const narrow = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

/* plotly reads a few tags in its texts: what is not ours is shown as it is. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function unit() {
  return plain(page.data.unit.replace(/^./, (first) => first.toUpperCase()));
}

/* One of what a row's rate counts, such as a token. */
function itemOf(row) {
  return row.unit.replace(/s?\/s$/, "");
}

/* What is plotted for itself: a model, of one of several runs. */
function labelOf(row) {
  return row.run ? `${row.model} (${row.run})` : row.model;
}

function runOf(row) {
  return page.data.runs.find((run) => run.name === row.run);
}

/* What a row's cell is, such as `sequence 512`; of several settings their values alone. */
function cellOf(row) {
  return [page.data.cells[row.workload], row.cell].filter(Boolean).join(" ");
}

function cellTitle() {
  return $("filters").elements.cell.parentElement.firstChild.textContent.trim();
}

function shapeOf(row) {
  return row.length === null ? [row.batch, cellOf(row)].filter(Boolean).join(", ") : `${row.batch}×${row.length}`;
}

function checkpointingOf(row) {
  if (row.checkpointing === "" || row.checkpointing === "none") return "";
  return row.checkpointing === "full" ? "checkpointing" : `${row.checkpointing} checkpointing`;
}

function settingsOf(row) {
  return [row.version, row.others, row.precision, checkpointingOf(row)].filter(Boolean).join(", ");
}

function rateOf(row) {
  if (row.rate === null) return "no throughput";
  const interval = `${narrow.format(row.low)} to ${narrow.format(row.high)}`;
  return row.predicted
    ? `~${wide.format(row.rate)} ${row.unit} (nine of ten: ${interval})`
    : `${wide.format(row.rate)} ${row.unit} (±${narrow.format((row.high - row.low) / 2)})`;
}

function hoverOf(row) {
  return [
    `<b>${plain(labelOf(row))}</b>, ${row.parameters === null ? "?" : narrow.format(row.parameters)} parameters`,
    plain([`batch ${row.batch}`, cellOf(row), row.mode].filter(Boolean).join(", ")),
    plain(settingsOf(row)),
    plain(rateOf(row)),
    row.peak_mb === null ? "peak not known" : `${wide.format(row.peak_mb)} MB${row.predicted ? ", predicted" : ""}`,
    row.fits ? (row.frontier ? "on the frontier" : "fits") : plain(row.outcome.replaceAll("_", " ")),
  ].join("<br>");
}
