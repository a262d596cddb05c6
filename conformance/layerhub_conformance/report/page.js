"use strict";
const find = (id) => document.getElementById(id);
const form = find("filters"), grid = find("grid"), dialog = find("cell");
const FAILING = ["fail", "mistrusted"], DIRECTIONS = ["forward", "gradient"], MOST = 100;
let data, cells;

/* An element with classes: h("td.cell", {…}, children). Children are nodes or text, never markup. */
function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) if (value !== null) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== ""));
  return element;
}

/* The tables of the report: gzip in base64 (see page.py). */
async function unpacked() {
  const bytes = Uint8Array.from(atob(find("data").textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function row({ text, data: plain }, k) {
  const found = { at: k };
  for (const name in text) found[name] = data.texts[text[name][k]];
  for (const name in plain) found[name] = plain[name][k];
  return found;
}

const keyOf = (kind, subject, backend, dtype, direction) => JSON.stringify([kind, subject, backend, dtype, direction]);
const keyOfCell = (c) => keyOf(c.kind, c.subject, c.backend, c.dtype, c.direction);
const grouped = (value) => value.toLocaleString("en-US");
const style = (verdict) => "v-" + verdict.replace(" ", "-");
const mark = (verdict) => h("span.mark." + style(verdict), { "aria-hidden": "true" }, data.symbols[verdict]);
const size = (value) => (value === "NaN" ? Infinity : value === null ? -1 : Number(value));

function share(value) {
  if (value === null || value === "NaN") return value ?? "–";
  value = Number(value);
  if (!Number.isFinite(value)) return "∞";
  if (value > 0 && value < 0.005) return "<0.01";
  return value < 10 ? value.toFixed(2) : value < 1e5 ? grouped(Math.round(value)) : value.toExponential(0).replace("e+", "e");
}

const power = (value) => (value === null ? "–" : Number(value).toExponential(0).replace("e+0", "").replace("-", "−"));
const number = (value) => (value === null ? "–" : String(value).replace("-", "−"));
const time = (s) => (s < 0.1 ? `${Math.round(1000 * s)} ms` : s < 120 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`);

/* ---- the matrix ---- */

function wanted() {
  const chosen = new FormData(form), text = chosen.get("text").trim();
  let matches = (name) => name.toLowerCase().includes(text.toLowerCase());
  try {
    const pattern = new RegExp(text, "i");
    matches = (name) => pattern.test(name);
  } catch { /* no regular expression: the text as it stands */ }
  const columns = data.backends
    .filter(([backend]) => chosen.getAll("backend").includes(backend))
    .flatMap(([backend, dtypes]) => dtypes.filter((d) => chosen.getAll("dtype").includes(d)).map((d) => [backend, d]))
    .flatMap(([backend, dtype]) => DIRECTIONS.filter((d) => chosen.getAll("direction").includes(d)).map((d) => [backend, dtype, d]));
  return { columns, matches, kind: chosen.get("kind"), failing: chosen.has("failing"), compact: chosen.has("compact") };
}

function render() {
  const want = wanted();
  const kinds = new Map();
  for (const [kind, subject] of data.specs) {
    if ((want.kind && kind !== want.kind) || !want.matches(subject)) continue;
    const found = want.columns.map(([backend, dtype, direction]) => cells.get(keyOf(kind, subject, backend, dtype, direction)));
    if (want.failing && !found.some((cell) => cell && FAILING.includes(cell.verdict))) continue;
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(line(kind, subject, found, want.columns));
  }
  const bodies = [...kinds].map(([kind, rows]) => h("tbody", null, title(kind, rows.length, want.columns.length), rows));
  grid.replaceChildren(head(want.columns), ...bodies);
  grid.classList.toggle("compact", want.compact);
  const shown = [...kinds.values()].reduce((sum, rows) => sum + rows.length, 0);
  find("count").textContent = `${grouped(shown)} of ${grouped(data.specs.length)} specs shown.`;
  grid.querySelector("button")?.setAttribute("tabindex", "0");
}

function title(kind, count, columns) {
  const all = data.specs.filter(([k]) => k === kind);
  const idle = all.filter(([, , standing]) => standing === "not run").length;
  const told = `${count === all.length ? "" : grouped(count) + " of "}${grouped(all.length)}${idle ? `, ${grouped(idle)} not run` : ""}`;
  return h("tr.kind", null, h("th", { scope: "rowgroup", colspan: columns + 1 }, h("span", null, h("b", null, kind), " ", told)));
}

function head(columns) {
  const rows = [0, 1, 2].map((depth) => {
    const spans = [];
    columns.forEach((column, k) => {
      const same = k && column.slice(0, depth + 1).join("\0") === columns[k - 1].slice(0, depth + 1).join("\0");
      if (same) spans.at(-1)[1] += 1;
      else spans.push([column, 1]);
    });
    return h("tr", null, spans.map(([column, span]) => h("th", { scope: "col", colspan: span, class: edge(column, columns) }, column[depth])));
  });
  rows[0].prepend(h("th.name", { rowspan: 3, scope: "col" }, "spec"));
  return h("thead", null, rows);
}

/* Where a new backend begins, a stronger line is drawn. */
const edge = (column, columns) => (columns.find(([backend]) => backend === column[0]) === column ? "edge" : null);

function line(kind, subject, found, columns) {
  const humps = subject.split(/(?<=[a-z])(?=[A-Z])/).flatMap((part) => [part, h("wbr")]);
  const name = h("th.name", { scope: "row" }, humps);
  if (!found.some(Boolean)) return h("tr", null, name, h("td.idle", { colspan: columns.length || 1 }, h("span", null, "not run")));
  return h("tr", null, name, found.map((cell, k) => box(kind, cell, columns[k], k, edge(columns[k], columns))));
}

function box(kind, cell, [, , direction], column, css) {
  if (!cell) {
    const none = direction === "gradient" && data.flat.includes(kind);
    return h("td.idle", { class: css, "aria-label": none ? "has no gradient" : "not run" }, none ? "–" : mark("not run"));
  }
  const button = h("button." + style(cell.verdict), { type: "button", tabindex: "-1", "data-cell": keyOfCell(cell), "data-column": column, "aria-label": aloud(cell) },
    h("span.first", null, mark(cell.verdict), cell.run ? share(cell.worst) : "", cell.grade ? h("b.grade", null, cell.grade) : ""),
    h("span.second", null, cell.run ? `${power(cell.resolution)} · ${time(cell.seconds)}` : cell.verdict));
  button.style.setProperty("--used", Math.max(0, Math.min(1, size(cell.worst) / data.limit)));
  return h("td", { class: css }, button);
}

const place = (c) => `${c.subject} on ${c.backend}, ${c.dtype}, ${c.direction}`;

function aloud(cell) {
  const parts = [`${place(cell)}: ${cell.verdict}`, `${cell.passed} of ${cell.run} trials passed`];
  if (cell.worst !== null) parts.push(`worst error ${share(cell.worst)} of its bound`);
  if (cell.resolution !== null) parts.push(`resolution ${power(cell.resolution)}`);
  if (cell.grade) parts.push(`grade ${cell.grade}`);
  return [...parts, time(cell.seconds)].join(", ");
}

/* One button of the matrix can be tabbed to; the arrow keys choose which. */
function move(event) {
  const here = event.target.closest("button[data-column]");
  if (!here) return;
  const tr = here.closest("tr"), inRow = [...tr.querySelectorAll("button")], k = inRow.indexOf(here);
  const inColumn = [...grid.querySelectorAll(`button[data-column="${here.dataset.column}"]`)], j = inColumn.indexOf(here);
  const there = { ArrowRight: inRow[k + 1], ArrowLeft: inRow[k - 1], Home: inRow[0], End: inRow.at(-1), ArrowDown: inColumn[j + 1], ArrowUp: inColumn[j - 1] }[event.key];
  if (!there) return;
  event.preventDefault();
  there.focus();
}

/* ---- the cases of a cell ---- */

function open(said) {
  const key = keyOf(...JSON.parse(said));
  const cell = cells.get(key);
  if (!cell) return;
  const results = trials(cell);
  const told = results.filter((r) => r.shown !== "pass"), passed = results.filter((r) => r.shown === "pass");
  dialog.replaceChildren(
    h("header", null, h("h2", { id: "cell-title" }, mark(cell.verdict), " ", place(cell)),
      h("button", { type: "button", "data-close": "", "aria-label": "Close" }, "✕")),
    h("div.sheet", { tabindex: "0" }, peers(cell),
      cell.reasons.length ? h("ul.reasons." + style(cell.verdict), null, cell.reasons.map((reason) => h("li", null, reason))) : null,
      facts(cell), listed(told, card, (rows) => h("div", null, rows)),
      passed.length ? h("details", told.length ? null : { open: "" }, h("summary", null, h("b", null, `${grouped(passed.length)} passing`)),
        listed(passed, passing, passes)) : null));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".sheet").scrollTop = 0;
  history.replaceState(null, "", "#cell=" + encodeURIComponent(key));
}

/* The trials of a cell, worst first. A trial that fails in the other direction alone passes in this one. */
function trials(cell) {
  const same = Object.entries(data.results.text).filter(([name]) => ["kind", "subject", "backend", "dtype"].includes(name));
  const want = same.map(([name, column]) => [column, data.texts.indexOf(cell[name])]);
  const found = new Map();
  for (let k = 0; k < data.results.text.kind.length; k++) {
    if (want.every(([column, text]) => column[k] === text)) found.set(k, { ...row(data.results, k), findings: [] });
  }
  data.of.forEach((k, i) => found.get(k)?.findings.push(row(data.findings, i)));
  const kept = [...found.values()].filter((r) => (r.findings.length ? r.findings.some((f) => f.direction === cell.direction) : cell.direction === "forward"));
  for (const r of kept) {
    const elsewhere = r.findings.some((f) => !f.right);
    r.findings = r.findings.filter((f) => f.direction === cell.direction);
    r.shown = ["fail", "xfail"].includes(r.verdict) && elsewhere && r.findings.every((f) => f.right) ? "pass" : r.verdict;
    r.replay = r.replay.replaceAll("\0", r.case);
    r.worst = r.findings.reduce((worst, f) => (size(f.worst) > size(worst) ? f.worst : worst), null);
    r.resolution = r.findings.reduce((worst, f) => (size(f.resolution) > size(worst) ? f.resolution : worst), null);
  }
  const rank = (r) => data.verdicts.indexOf(r.shown);
  return kept.sort((a, b) => rank(a) - rank(b) || size(b.worst) - size(a.worst) || a.at - b.at);
}

/* The first rows, and a button for the others. */
function listed(rows, drawn, around) {
  if (!rows.length) return null;
  const whole = h("div", null, around(rows.slice(0, MOST).map(drawn)));
  if (rows.length > MOST) {
    const more = h("button", { type: "button" }, `Show all ${grouped(rows.length)}`);
    more.addEventListener("click", () => whole.replaceChildren(around(rows.map(drawn))));
    whole.append(more);
  }
  return whole;
}

function peers(cell) {
  const others = data.backends.map(([backend]) => cells.get(keyOfCell({ ...cell, backend }))).filter(Boolean);
  return others.length < 2 ? null : h("p.peers", null, others.map((c) => h("button", { type: "button", "data-cell": keyOfCell(c), "aria-current": String(c === cell) },
    mark(c.verdict), ` ${c.backend} ${share(c.worst)}`)));
}

const pairs = (list) => list.filter(([, value]) => value !== null && value !== "" && value !== "–").map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)));

function facts(c) {
  const counts = [["passed", c.passed], ["failed", c.failed], ["failed as expected", c.xfailed], ["unsupported", c.unsupported]];
  return h("dl.facts", null, pairs([["trials", grouped(c.run)], ...counts.map(([name, n]) => [name, n ? grouped(n) : null]),
    [`worst (limit ${data.limit})`, share(c.worst)], ["resolution", power(c.resolution)], ["rms of error / bound", share(c.rms)], ["grade", c.grade], ["time", time(c.seconds)]]));
}

function card(r) {
  const wrong = r.findings.filter((f) => !f.right), right = r.findings.filter((f) => f.right);
  return h("article." + style(r.shown), null,
    h("h3", null, mark(r.shown), " ", h("code", null, r.case)),
    h("p.facts", null, [r.check, r.route, r.mode, r.served.length ? "served by " + r.served.join(", ") : "", time(r.seconds)].filter(Boolean).map((fact) => h("span", null, fact))),
    r.message ? h("pre", null, r.message) : null,
    wrong.map(fault),
    right.length ? h("p.rest", null, "Right: ", right.map((f) => `${f.what} ${share(f.worst)}`).join(", ")) : null,
    replay(r));
}

function fault(f) {
  return h("div.fault", null,
    h("p", null, h("b", null, f.what), h("span.worst", null, f.worst === null ? "" : `${share(f.worst)} × its bound`), h("span.pattern", null, f.pattern)),
    h("dl.facts.element", null, pairs([["at", f.index.length ? `[${f.index.join(", ")}]` : null], ["value", number(f.got)], ["reference", number(f.expected)], ["bound", number(f.bound)]])),
    h("dl.facts", null, pairs([["resolution", power(f.resolution)], ["rms", share(f.rms)], ["mean", f.mean === null ? null : number(f.mean)],
      ["undecided", f.undecided ? `${grouped(f.undecided)} of ${grouped(f.size)}` : null], ["elements", f.size ? grouped(f.size) : null]])),
    f.detail ? h("p.detail", null, f.detail) : null);
}

function replay(r) {
  if (!r.replay) return null;
  return h("div.replay", null, h("code", null, r.replay), h("button.copy", { type: "button" }, "Copy"));
}

const passing = (r) => h("tr", null, h("td", null, h("code", null, r.case)), h("td", null, [r.check, r.route, r.mode].join(", ")),
  h("td", null, share(r.worst)), h("td", null, power(r.resolution)), h("td", null, time(r.seconds)),
  h("td", null, r.replay ? h("button.copy", { type: "button", "data-copy": r.replay, "aria-label": "Copy the command that replays this trial" }, "Copy") : null));

const passes = (rows) => h("div.box", null, h("table", null,
  h("thead", null, h("tr", null, ["case", "check", "worst", "resolution", "time", "replay"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, rows)));

async function copy(button) {
  const text = button.dataset.copy ?? button.previousElementSibling.textContent;
  await navigator.clipboard.writeText(text).catch(() => copyBySelection(text, button));
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/* Where the clipboard is not granted. Beside the button, since outside an open dialog nothing can be selected. */
function copyBySelection(text, button) {
  const area = h("textarea.unseen", null, text);
  button.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  button.focus();
}

/* ---- events ---- */

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === dialog || button?.hasAttribute("data-close")) dialog.close();
  else if (button?.dataset.cell) open(button.dataset.cell);
  else if (button?.classList.contains("copy")) copy(button);
});
dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
grid.addEventListener("keydown", move);
grid.addEventListener("focusin", (event) => {
  grid.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
  event.target.closest("button")?.setAttribute("tabindex", "0");
});
form.addEventListener("input", () => requestAnimationFrame(render));
form.addEventListener("reset", () => setTimeout(render));
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((details) => { details.open = true; }));

async function start() {
  data = await unpacked();
  cells = new Map(data.cells.text.kind.map((_, k) => row(data.cells, k)).map((cell) => [keyOfCell(cell), cell]));
  render();
  if (location.hash.startsWith("#cell=")) open(decodeURIComponent(location.hash.slice(6)));
  document.documentElement.dataset.ready = "yes";
}

start().catch((problem) => {
  grid.replaceWith(h("p.hint", null, `The matrix could not be drawn (${problem}); report.json and summary.md hold the same facts.`));
});
