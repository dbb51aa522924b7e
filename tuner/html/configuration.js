"use strict";
/* One configuration: the one that was clicked at, and those that answer the goals. */

function settingsFile(row) {
  const notes = [
    `# throughput: ~${wide.format(row.rate)} ${row.unit}${row.predicted ? ` (predicted; ${wide.format(row.low)} to ${wide.format(row.high)} in nine of ten)` : ""}`,
    `# memory: ~${wide.format(row.peak_mb)} MB${row.predicted ? ` (predicted; up to ${wide.format(row.needs_mb)} with its margin)` : ""}`,
    `# ${row.predicted ? "predicted for" : "measured on"} ${runOf(row).device}, training, under a budget of ${runOf(row).budget}`,
  ];
  return row.settings.flatMap((line) => (line === "batch_size: {}" ? [`batch_size: ${row.batch}`, ...notes] : [line])).join("\n") + "\n";
}

function keep(row, isAsked) {
  page.kept = row;
  const facts = [
    ["Run", row.run && `${row.run}, ${runOf(row).device}`], ["Model", `${row.model}${row.parameters === null ? "" : `, ${wide.format(row.parameters)} parameters`}`],
    ["Batch", row.batch], [cellTitle(), row.cell], ["Kernels", row.version], ["Precision", row.precision],
    ["Checkpointing", row.checkpointing], ["Other settings", row.others], ["Mode", row.mode], ["Workload", row.workload], ["Throughput", rateOf(row)],
    ["Peak memory", row.peak_mb === null ? "not known" : `${wide.format(row.peak_mb)} MB${row.needs_mb > row.peak_mb ? `, ${wide.format(row.needs_mb)} with its margin` : ""}`],
    ["Energy", row.energy_mj === null ? "" : `${fine.format(row.energy_mj)} mJ/${itemOf(row)}`],
    ["Outcome", row.fits ? (row.predicted ? "predicted to fit" : "measured") : row.outcome.replaceAll("_", " ")],
    ["Said", row.note], ["Digest", row.digest],
  ];
  $("chosen-facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  $("chosen-title").textContent = [`${labelOf(row)} ${shapeOf(row)}`, settingsOf(row)].filter(Boolean).join(", ");
  $("yaml").textContent = row.settings.length ? settingsFile(row) : "# phase8-train takes no settings of this kind";
  $("copied").textContent = "";
  $("chosen").hidden = false;
  $("chosen-figure").hidden = !row.ledger.length;
  if (row.ledger.length) draw("chosen-ledger", ledgerPlot([row]));
  for (const line of document.querySelectorAll('#table tr[aria-current="true"]')) line.removeAttribute("aria-current");
  page.lines[row.index].setAttribute("aria-current", "true");
  if (isAsked) {
    Plotly.relayout("plot", { shapes: mainShapes(page.shown.filter((r) => r.fits), row) });
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

/* The answers to the goals: all of them are in the page; here one of them is shown, and marked in the plot. */

const answers = () => [...document.querySelectorAll("#words article")];

function answering(article) {
  const { digest, run } = article.dataset;
  return page.rows.find((r) => r.digest === digest && r.run === run);
}

function prepareGoals() {
  const choices = [...document.querySelectorAll("#goals input")];
  if (!choices.length) return;
  for (const choice of choices) choice.addEventListener("change", () => { showGoal(); drawMain(); });
  for (const article of answers()) {
    article.querySelector("button").addEventListener("click", () => keep(answering(article), true));
  }
  choices[0].checked = true;
  showGoal();
}

function showGoal() {
  page.goal = document.querySelector("#goals input:checked").value;
  for (const article of answers()) article.classList.toggle("other", article.dataset.goal !== page.goal);
  page.answering = answers().filter((a) => a.dataset.goal === page.goal).map(answering).filter(Boolean);
}
