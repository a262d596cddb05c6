"use strict";
const find = (id) => document.getElementById(id);
const form = find("filters"), grid = find("grid"), dialog = find("cell");
const FAILING = ["fail", "mistrusted"], DIRECTIONS = ["forward", "gradient"], MOST = 100;
let data, cells;

/* An element: h("td.cell", {…attributes}, …children). Children are nodes or text, never markup. */
function h(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  const attributes = children[0]?.constructor === Object ? children.shift() : {};
  for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== ""));
  return element;
}

/* See page.py for what is packed. */
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

const keyOf = (...place) => JSON.stringify(place);
const keyOfCell = (c) => keyOf(c.kind, c.subject, c.backend, c.dtype, c.direction);
const grouped = (value) => value.toLocaleString("en-US");
const style = (verdict) => "v-" + verdict.replace(" ", "-");
const mark = (verdict) => h("span.mark." + style(verdict), { "aria-hidden": "true" }, data.symbols[verdict]);
const size = (value) => (value === "NaN" ? Infinity : value === null ? -1 : Number(value));
const largest = (values) => values.reduce((a, b) => (size(b) > size(a) ? b : a), null);

function share(value) {
  if (value === null || value === "NaN") return value ?? "–";
  value = Number(value);
  if (!Number.isFinite(value)) return "∞";
  if (value > 0 && value < 0.005) return "<0.01";
  return value < 10 ? value.toFixed(2) : value < 1e5 ? grouped(Math.round(value)) : power(value);
}

const minus = (text) => text.replace("-", "−").replace("e-", "e−").replace("e+", "e");
const number = (value) => (value === null ? "–" : minus(String(value)));
const power = (value) => (value === null ? "–" : value === 0 ? "0" : minus(Number(value).toExponential(0)));
const time = (s) => (s < 0.1 ? `${Math.round(1000 * s)} ms` : s < 120 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`);

/* ---- the matrix ---- */

function wanted() {
  const chosen = new FormData(form), text = chosen.get("text").trim();
  const among = (name) => (value) => chosen.getAll(name).includes(value);
  let matches = (name) => name.toLowerCase().includes(text.toLowerCase());
  try {
    const pattern = new RegExp(text, "i");
    matches = (name) => pattern.test(name);
  } catch { /* no regular expression: the text as it stands */ }
  const columns = data.backends.filter(([backend]) => among("backend")(backend))
    .flatMap(([backend, dtypes]) => dtypes.filter(among("dtype")).map((dtype) => [backend, dtype]))
    .flatMap((column) => DIRECTIONS.filter(among("direction")).map((direction) => [...column, direction]));
  return { columns, matches, has: (name) => chosen.has(name), kind: chosen.get("kind") };
}

function render() {
  const { columns, matches, has, kind: only } = wanted();
  const kinds = new Map();
  let shown = 0;
  for (const [kind, subject] of data.specs) {
    if ((only && kind !== only) || !matches(subject)) continue;
    const found = columns.map((column) => cells.get(keyOf(kind, subject, ...column)));
    if (has("failing") && !found.some((cell) => FAILING.includes(cell?.verdict))) continue;
    if (has("run") && !found.some(Boolean)) continue;
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(line(kind, subject, found, columns));
    shown += 1;
  }
  const bodies = [...kinds].map(([kind, rows]) => h("tbody", title(kind, rows.length, columns.length), rows));
  grid.replaceChildren(head(columns), ...bodies);
  grid.classList.toggle("compact", has("compact"));
  find("count").textContent = `${grouped(shown)} of ${grouped(data.specs.length)} specs shown.`;
  grid.querySelector("button")?.setAttribute("tabindex", "0");
}

function title(kind, count, columns) {
  const all = data.specs.filter((spec) => spec[0] === kind), idle = all.filter((spec) => spec[2] === "not run").length;
  const told = (count === all.length ? "" : grouped(count) + " of ") + grouped(all.length) + (idle ? `, ${grouped(idle)} not run` : "");
  return h("tr.kind", h("th", { scope: "rowgroup", colspan: columns + 1 }, h("span", h("b", kind), " ", told)));
}

function head(columns) {
  const rows = [0, 1, 2].map((depth) => {
    const spans = [], upTo = (column) => keyOf(...column.slice(0, depth + 1));
    columns.forEach((column, k) => {
      if (k && upTo(column) === upTo(columns[k - 1])) spans.at(-1).colspan += 1;
      else spans.push({ scope: "col", colspan: 1, class: edge(column, columns), column });
    });
    return h("tr", spans.map(({ column, ...attributes }) => h("th", attributes, column[depth])));
  });
  rows[0].prepend(h("th.name", { rowspan: 3, scope: "col" }, "spec"));
  return h("thead", rows);
}

/* Where a backend begins, a line is drawn. */
const edge = (column, columns) => (columns.find(([backend]) => backend === column[0]) === column ? "edge" : null);

function line(kind, subject, found, columns) {
  const humps = subject.split(/(?<=[a-z])(?=[A-Z])/).flatMap((part) => [part, h("wbr")]);
  const name = h("th.name", { scope: "row" }, humps);
  if (!found.some(Boolean)) return h("tr", name, h("td.idle", { colspan: columns.length || 1 }, h("span", "not run")));
  return h("tr", name, found.map((cell, k) => h("td", { class: edge(columns[k], columns) },
    cell ? button(cell, k) : idle(kind, columns[k][2]))));
}

const idle = (kind, direction) => {
  const none = direction === "gradient" && data.flat.includes(kind);
  return h("span.idle", { role: "img", "aria-label": none ? "has no gradient" : "not run" }, none ? "–" : mark("not run"));
};

function button(cell, column) {
  const made = h("button." + style(cell.verdict),
    { tabindex: "-1", "data-cell": keyOfCell(cell), "data-column": column, "aria-label": aloud(cell) },
    h("span.first", mark(cell.verdict), cell.worst === null ? "" : share(cell.worst),
      cell.xfailed && cell.verdict === "pass" ? mark("xfail") : "", cell.grade ? h("b.grade", cell.grade) : ""),
    h("span.second", cell.verdict === "unsupported" ? cell.verdict : `${power(cell.resolution)} · ${time(cell.seconds)}`));
  made.style.setProperty("--used", Math.max(0, Math.min(1, size(cell.worst) / data.limit)));
  return made;
}

const place = (c) => `${c.subject} on ${c.backend}, ${c.dtype}, ${c.direction}`;

function aloud(cell) {
  return [`${place(cell)}: ${cell.verdict}`, `${cell.passed} of ${cell.run} trials passed`,
    cell.worst === null ? "" : `worst error ${share(cell.worst)} of its bound`,
    cell.resolution === null ? "" : `resolution ${power(cell.resolution)}`,
    cell.grade ? `grade ${cell.grade}` : "", time(cell.seconds)].filter(Boolean).join(", ");
}

/* One button of the matrix can be tabbed to; the arrow keys choose which. */
function move(event) {
  const here = event.target.closest("button");
  const along = [...here.closest("tr").querySelectorAll("button")], k = along.indexOf(here);
  const down = [...grid.querySelectorAll(`[data-column="${here.dataset.column}"]`)], j = down.indexOf(here);
  const there = { ArrowRight: along[k + 1], ArrowLeft: along[k - 1], ArrowDown: down[j + 1], ArrowUp: down[j - 1],
    Home: along[0], End: along.at(-1) }[event.key];
  if (!there) return;
  event.preventDefault();
  there.focus();
}

/* ---- the cases of a cell ---- */

function open(said) {
  const key = keyOf(...JSON.parse(said)), cell = cells.get(key);
  if (!cell) return;
  const calm = ["unsupported", "pass"], results = trials(cell), told = results.filter((r) => !calm.includes(r.shown));
  dialog.replaceChildren(
    h("header", h("h2", { id: "cell-title" }, mark(cell.verdict), " ", place(cell)),
      h("button", { "data-close": "", "aria-label": "Close" }, "✕")),
    h("div.sheet", { tabindex: "0" }, peers(cell), cell.reasons.map((reason) => h("p.reason." + style(cell.verdict), reason)), facts(cell),
      listed(told, card, (rows) => h("div", rows)),
      calm.map((verdict) => folded(verdict, results.filter((r) => r.shown === verdict), !told.length))));
  if (!dialog.open) dialog.showModal();
  history.replaceState(null, "", "#cell=" + encodeURIComponent(key));
}

/* The trials of a cell, worst first. A trial that fails in the other direction alone passes in this one. */
function trials(cell) {
  const want = ["kind", "subject", "backend", "dtype"].map((name) => [data.results.text[name], data.texts.indexOf(cell[name])]);
  const found = new Map();
  for (const k of data.results.text.kind.keys()) {
    if (want.every(([column, text]) => column[k] === text)) found.set(k, { ...row(data.results, k), findings: [] });
  }
  data.of.forEach((k, i) => found.get(k)?.findings.push(row(data.findings, i)));
  const here = (f) => f.direction === cell.direction;
  const kept = [...found.values()].filter((r) => (r.findings.length ? r.findings.some(here) : cell.direction === "forward"));
  for (const r of kept) {
    const elsewhere = r.findings.some((f) => !f.right && !here(f));
    r.findings = r.findings.filter(here);
    r.shown = elsewhere && r.findings.every((f) => f.right) ? "pass" : r.verdict;
    r.replay = r.replay.replaceAll("\0", r.case);
    r.worst = largest(r.findings.map((f) => f.worst));
  }
  const rank = (r) => data.verdicts.indexOf(r.shown);
  return kept.sort((a, b) => rank(a) - rank(b) || size(b.worst) - size(a.worst) || a.at - b.at);
}

/* The first rows, and a button for the others. */
function listed(rows, drawn, around) {
  if (!rows.length) return null;
  const whole = h("div", around(rows.slice(0, MOST).map(drawn)));
  if (rows.length > MOST) {
    const more = h("button", `Show all ${grouped(rows.length)}`);
    more.addEventListener("click", () => whole.replaceChildren(around(rows.map(drawn))));
    whole.append(more);
  }
  return whole;
}

function folded(verdict, rows, open) {
  if (!rows.length) return null;
  return h("details", open ? { open: "" } : {}, h("summary", h("b", mark(verdict), ` ${grouped(rows.length)} ${verdict}`)),
    listed(rows, brief, table));
}

function peers(cell) {
  const all = data.backends.map(([backend]) => cells.get(keyOfCell({ ...cell, backend }))).filter(Boolean);
  return h("p.peers", all.map((c) => h("button", { "data-cell": keyOfCell(c), "aria-current": c === cell || null },
    mark(c.verdict), ` ${c.backend} ${share(c.worst)}`)));
}

/* Names with their values; without those that have none. */
const pairs = (list, css = "") => h("dl.facts" + css, Object.entries(list).filter(([, value]) => value && value !== "–")
  .map(([name, value]) => h("div", h("dt", name), h("dd", value))));

const facts = (c) => pairs({ trials: grouped(c.run), passed: grouped(c.passed), failed: c.failed && grouped(c.failed),
  "failed as expected": c.xfailed && grouped(c.xfailed), unsupported: c.unsupported && grouped(c.unsupported),
  [`worst (limit ${data.limit})`]: share(c.worst), resolution: power(c.resolution), "rms of error / bound": share(c.rms),
  grade: c.grade, time: time(c.seconds) });

function card(r) {
  const right = r.findings.filter((f) => f.right).map((f) => `${f.what} ${share(f.worst)}`);
  const told = [r.check, r.route, r.mode, r.served.length ? "served by " + r.served.join(", ") : "", time(r.seconds)];
  return h("article." + style(r.shown),
    h("h3", mark(r.shown), " ", h("code", r.case)),
    h("p.facts", told.filter(Boolean).map((fact) => h("span", fact))),
    r.message ? h("pre", r.message) : null,
    r.findings.filter((f) => !f.right).map(fault),
    right.length ? h("p.rest", "Right: ", right.join(", ")) : null,
    r.replay ? h("div.replay", h("code", r.replay), h("button.copy", "Copy")) : null);
}

const fault = (f) => h("div.fault",
  h("p", h("b", f.what), h("span.worst", f.worst === null ? "" : `${share(f.worst)} × its bound`), h("span.pattern", f.pattern)),
  pairs({ at: f.index.length ? `[${f.index.join(", ")}]` : "", value: number(f.got), reference: number(f.expected),
    bound: number(f.bound) }, ".element"),
  pairs({ resolution: power(f.resolution), rms: share(f.rms), mean: number(f.mean), elements: f.size && grouped(f.size),
    undecided: f.undecided && grouped(f.undecided) }),
  f.detail ? h("p.rest", f.detail) : null);

function brief(r) {
  const note = r.shown === r.verdict ? r.message : `${r.verdict} in the other direction`;
  return h("tr", [h("code", r.case), [r.check, r.route, r.mode, note].filter(Boolean).join(", "), share(r.worst),
    power(largest(r.findings.map((f) => f.resolution))), time(r.seconds),
    r.replay ? h("button.copy", { "data-copy": r.replay, "aria-label": "Copy the replay command" }, "Copy") : ""]
    .map((cell) => h("td", cell)));
}

const table = (rows) => h("div.box", h("table", h("thead", h("tr",
  ["case", "check", "worst", "resolution", "time", "replay"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", rows)));

async function copy(button) {
  const text = button.dataset.copy ?? button.previousElementSibling.textContent;
  await navigator.clipboard.writeText(text).catch(() => copyBySelection(text, button));
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/* Beside the button, since outside an open dialog nothing can be selected. */
function copyBySelection(text, button) {
  const area = h("textarea.unseen", text);
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
  grid.querySelector('[tabindex="0"]').setAttribute("tabindex", "-1");
  event.target.setAttribute("tabindex", "0");
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
  grid.replaceWith(h("p", `The matrix could not be drawn: ${problem}. See report.json and summary.md.`));
});
