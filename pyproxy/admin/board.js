"use strict";
// Whatever a client or an upstream has said stands in text nodes and attributes only.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MOST_ENDED = 200;   // ended rows that are kept
const OVERSCAN = 8;       // rows above and below those that are seen
const RATE_SPAN = 2;      // seconds over which a rate is measured
const ROUTES = 12;        // routes that have a button of their own
const REDRAW_MS = 100;
const MOST_FRAMES = 100;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// How values are written.

const number = new Intl.NumberFormat("en");
function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 0) value = 0;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} m ${Math.floor(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} m`;
}
function octets(value) {
  if (!value) return "0";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return "";
}

// What is known.

const rows = new Map();   // open ones by their id
const ended = new Map();  // oldest first
let moving = [];          // names of what changes in a row
let ahead = 0;            // seconds by which the proxy's clock is ahead of this one
let counts = { open: 0, hidden: 0, routes: {}, silent: [] };
const now = () => Date.now() / 1000 + ahead;

function note(row, at) {
  const samples = row.samples;
  samples.push([at, row.events, row.sent]);
  while (samples.length > 2 && samples[1][0] < at - RATE_SPAN) samples.shift();
}
function rate(row, what = 1) {
  const at = now();
  const { samples } = row;
  while (samples.length > 1 && samples[1][0] < at - RATE_SPAN) samples.shift();
  const since = Math.max(samples[0][0], at - RATE_SPAN);
  return ((what === 1 ? row.events : row.sent) - samples[0][what]) / Math.max(at - since, 0.5);
}
function pace(row) {
  const events = rate(row);
  if (events || row.events) return events ? `${events.toFixed(1)}/s` : "";
  const sent = rate(row, 2);
  return sent ? `${octets(sent)}/s` : "";
}

function take(news) {
  ahead = news.now - Date.now() / 1000;
  if (news.moving) moving = news.moving;
  if (news.reset) { rows.clear(); ended.clear(); }
  for (const id of news.gone ?? []) rows.delete(id);
  for (const row of news.rows ?? []) {
    const young = row.began > news.now - RATE_SPAN;
    row.samples = [young ? [row.began, 0, 0] : [news.now - RATE_SPAN, row.events, row.sent]];
    row.stopping = rows.get(row.id)?.stopping ?? false;
    rows.set(row.id, row);
  }
  for (const [id, values] of Object.entries(news.moved ?? {})) {
    const row = rows.get(id);
    if (!row) continue;
    moving.forEach((name, index) => { row[name] = values[index]; });
    note(row, news.now);
  }
  for (const row of news.ended ?? []) {
    rows.delete(row.id);
    ended.set(row.id, row);
  }
  while (ended.size > MOST_ENDED) ended.delete(ended.keys().next().value);
  if (news.counts) counts = news.counts;
  if (news.hour) plots(news.hour);
  openTable.changed = endedTable.changed = true;
  draw();
}

// Columns: name, title, value to sort by, text, and how it looks.

const tone = { client: "warn", upstream: "warn" };
const common = [
  ["id", "request", (row) => row.began, (row) => row.id, { link: true }],
  ["route", "route", (row) => row.route, (row) => row.route],
  ["target", "asked for", (row) => row.target, (row) => `${row.method} ${row.target}`, { wide: true }],
  ["client", "client", (row) => row.client, (row) => row.client],
  ["model", "model", (row) => row.model ?? "", (row) => row.model ?? ""],
];
const openColumns = [
  ["stop", "stop", null, null, { stop: true }],
  ...common,
  ["peer", "upstream", (row) => row.peer, (row) => row.peer.replace(/^https?:\/\//, ""), { aside: true }],
  ["state", "state", (row) => row.state, (row) => (row.stopping ? "stopping" : row.state)
    , { wide: true, tone: (row) => (row.slow ? "warn" : row.first === null ? "" : "good") }],
  ["age", "age", (row) => -row.began, (row) => seconds(now() - row.began), { num: true, label: true }],
  ["first", "first", (row) => row.first ?? Infinity, (row) => seconds(row.first), { num: true, label: true }],
  ["rate", "events", (row) => rate(row) || rate(row, 2) / 1e6, pace, { num: true, title: "Events or messages a second; octets where nobody reads events" }],
  ["tokens", "tokens", (row) => row.tokens ?? -1, (row) => (row.tokens === null ? "" : number.format(row.tokens)), { num: true, label: true }],
  ["sent", "sent", (row) => row.sent, (row) => octets(row.sent), { num: true, aside: true }],
  ["queued", "queued ⇠ ⇢", (row) => row.to_client + row.to_upstream
    , (row) => (row.to_client || row.to_upstream ? `${octets(row.to_client)} · ${octets(row.to_upstream)}` : "")
    , { num: true, title: "Octets that wait for the client · for the upstream", aside: true }],
  ["slow", "slow", (row) => row.slow, (row) => row.slow, { tone: (row) => tone[row.slow] ?? "" }],
];
const endedColumns = [
  ...common,
  ["status", "status", (row) => row.status, (row) => String(row.status || "")
    , { num: true, tone: (row) => (row.status >= 500 ? "bad" : row.status >= 400 ? "warn" : "") }],
  ["how", "how it ended", (row) => row.how, (row) => row.how, { wide: true, tone: (row) => (row.good ? "good" : "bad") }],
  ["duration", "duration", (row) => row.duration, (row) => seconds(row.duration), { num: true, label: true }],
  ["first", "first", (row) => row.first ?? Infinity, (row) => seconds(row.first), { num: true, label: true }],
  ["events", "events", (row) => row.events, (row) => number.format(row.events), { num: true, aside: true }],
  ["tokens", "tokens", (row) => row.tokens ?? -1, (row) => (row.tokens === null ? "" : number.format(row.tokens)), { num: true, label: true }],
  ["sent", "sent", (row) => row.sent, (row) => octets(row.sent), { num: true, aside: true }],
  ["at", "ended", (row) => row.began + row.duration, (row) => `${seconds(now() - row.began - row.duration)} ago`, { num: true, aside: true }],
];

// Shares of the width.
const widths = {
  stop: 5.4, id: 5.4, route: 6, target: 13, client: 7, model: 7, peer: 7.5, state: 12.5, age: 4.8, first: 4.8, rate: 5.4,
  tokens: 4.8, sent: 5.4, queued: 7.4, slow: 6.4, status: 4.5, how: 14, duration: 5.5, events: 5, at: 8,
};

// A table of which only the rows that can be seen are there.  A row's element is never another
// row's: a click cannot end what was not pointed at.

class Table {
  constructor(element, source, columns, by, up) {
    Object.assign(this, { element, source, columns, by, up, changed: true, holds: false });
    this.order = [];
    this.shown = new Map();
    this.heads = new Map();
    element.setAttribute("role", "table");
    const head = make("tr", { role: "row" });
    for (const [name, title, value, , look = {}] of columns) {
      const cell = make("th", { scope: "col", role: "columnheader", className: look.num ? "num" : "" });
      if (value) {
        const button = make("button", { type: "button", textContent: title, title: look.title ?? "" });
        button.addEventListener("click", () => this.sort(name, this.by === name ? !this.up : true));
        cell.append(button);
      } else cell.textContent = title;
      this.heads.set(name, cell);
      head.append(cell);
    }
    const share = columns.reduce((sum, [name]) => sum + widths[name], 0);
    const group = make("colgroup", {}, ...columns.map(([name]) => {
      const column = make("col");
      column.style.width = `${(100 * widths[name]) / share}%`;
      return column;
    }));
    this.body = make("tbody", { role: "rowgroup" });
    element.append(group, make("thead", { role: "rowgroup" }, head), this.body);
    this.above = this.pad();
    this.below = this.pad();
    for (const [on, value] of [["pointerenter", true], ["pointerleave", false]]) {
      this.body.addEventListener(on, (event) => { if (event.pointerType === "mouse") { this.holds = value; this.changed = true; draw(); } });
    }
    this.sort(by, up);
  }

  pad() {
    const cell = make("td", { colSpan: this.columns.length });
    return make("tr", { className: "pad", ariaHidden: "true" }, cell);
  }

  sort(by, up) {
    Object.assign(this, { by, up, changed: true, must: true });
    for (const [name, cell] of this.heads) {
      if (name === by) cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    if (this.onSort) this.onSort();
    draw();
  }

  get held() {
    return this.holds || this.body.querySelector(":focus-visible") !== null;
  }

  arrange() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = (row) => words.every((word) => text(row).includes(word));
    const found = [...this.source.values()].filter(wanted);
    if (this.held && !this.must && this.order.length < this.source.size + MOST_ENDED) {
      const here = new Set(this.order.map((row) => row.id));
      const kept = this.order.map((row) => this.source.get(row.id) ?? Object.assign(row, { over: true }));
      const fresh = found.filter((row) => !here.has(row.id));
      this.order = [...kept, ...fresh];
      return;
    }
    this.must = false;
    const value = this.columns.find(([name]) => name === this.by)[2];
    const keyed = found.map((row) => [value(row), row]);
    const turn = this.up ? 1 : -1;
    keyed.sort(([a, one], [b, other]) => {
      if (a !== b) return (typeof a === "string" ? a.localeCompare(b) : a - b) * turn || 0;
      return one.began - other.began;
    });
    this.order = keyed.map(([, row]) => row);
  }

  draw() {
    if (this.changed) { this.changed = false; this.arrange(); }
    const height = this.rowHeight();
    const top = this.body.isConnected && this.order.length ? this.body.getBoundingClientRect().top : 0;
    const first = Math.max(0, Math.min(this.order.length, Math.floor(-top / height)) - OVERSCAN);
    const last = Math.min(this.order.length, Math.ceil((innerHeight - top) / height) + OVERSCAN);
    const visible = this.order.slice(first, Math.max(first, last));
    if (!this.order.length) {
      this.body.replaceChildren();
      this.shown.clear();
      return;
    }
    if (!this.above.isConnected) this.body.append(this.above, this.below);
    const wanted = new Set(visible.map((row) => row.id));
    for (const [id, view] of this.shown) {
      if (!wanted.has(id)) { view.element.remove(); this.shown.delete(id); }
    }
    let next = this.above.nextSibling;
    visible.forEach((row, index) => {
      let view = this.shown.get(row.id);
      if (!view) { view = this.view(row); this.shown.set(row.id, view); }
      this.update(view, row, first + index);
      if (view.element === next) next = next.nextSibling;
      else this.body.insertBefore(view.element, next);
    });
    this.above.firstChild.style.height = `${first * height}px`;
    this.below.firstChild.style.height = `${(this.order.length - first - visible.length) * height}px`;
    this.element.setAttribute("aria-rowcount", this.order.length + 1);
  }

  rowHeight() {
    this.height ??= parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 34;
    return this.height;
  }

  view(row) {
    const element = make("tr", { role: "row" });
    element.dataset.id = row.id;
    const cells = this.columns.map(([name, title, , , look = {}]) => {
      const cell = make("td", { role: "cell", className: ["num", "wide", "aside"].filter((each) => look[each]).join(" ") });
      if (look.label) cell.dataset.label = title;
      if (look.stop) {
        const button = make("button", { type: "button", className: "stop", textContent: "Stop", ariaLabel: `Stop ${row.id}, ${row.method} ${row.target}` });
        button.addEventListener("click", () => stopOne(row.id, button));
        cell.append(button);
      } else if (look.link) {
        cell.append(make("a", { href: `#${row.id}`, textContent: row.id, ariaLabel: `Link to request ${row.id}` }));
      } else cell.append("");
      element.append(cell);
      return { cell, said: null, tone: "" };
    });
    return { element, cells };
  }

  update(view, row, index) {
    const { element, cells } = view;
    element.setAttribute("aria-rowindex", index + 2);
    element.classList.toggle("here", row.id === location.hash.slice(1));
    element.classList.toggle("over", row.over === true);
    this.columns.forEach(([, , , write, look = {}], column) => {
      const known = cells[column];
      if (look.stop) {
        const off = row.over === true || row.stopping === true;
        if (known.cell.firstChild.disabled !== off) known.cell.firstChild.disabled = off;
        return;
      }
      if (look.link) return;
      const said = write(row);
      if (said !== known.said) {
        known.said = said;
        known.cell.firstChild.data = said;
        known.cell.title = look.num ? look.title ?? "" : said;
      }
      const hue = look.tone ? look.tone(row) : "";
      if (hue !== known.tone) { known.tone = hue; known.cell.dataset.tone = hue; }
    });
  }

  show(id) {
    const index = this.order.findIndex((row) => row.id === id);
    if (index < 0) return false;
    const top = this.body.getBoundingClientRect().top + scrollY + index * this.rowHeight();
    scrollTo({ top: Math.max(0, top - innerHeight / 3) });
    return true;
  }
}

function text(row) {
  return [row.id, row.route, row.method, row.target, row.client, row.model, row.peer, row.state, row.how, row.slow, row.status]
    .join(" ").toLowerCase();
}

// Drawing: once a frame at most, and only when something may look otherwise.

let asked = false;
const frames = [];  // milliseconds that the last ones took
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    const began = performance.now();
    openTable.draw();
    endedTable.draw();
    tiles();
    if (leading) lead();
    frames.push(performance.now() - began);
    if (frames.length > MOST_FRAMES) frames.shift();
  });
}
function set(id, said) {
  const element = $(id);
  if (element.textContent !== said) element.textContent = said;
}
let tiled = 0;
function tiles() {
  if (performance.now() - tiled < REDRAW_MS) return;
  tiled = performance.now();
  let websockets = 0, events = 0, client = 0, upstream = 0;
  for (const row of rows.values()) {
    websockets += row.websocket ? 1 : 0;
    events += rate(row);
    client += row.slow === "client" ? 1 : 0;
    upstream += row.slow === "upstream" ? 1 : 0;
  }
  set("n-open", number.format(counts.open));
  set("n-websockets", number.format(websockets));
  set("n-events", number.format(Math.round(events)));
  set("n-client", number.format(client));
  set("n-upstream", number.format(upstream));
  set("open-count", openTable.order.length < rows.size ? `${openTable.order.length} of ${rows.size}` : rows.size ? String(rows.size) : "");
  set("ended-count", ended.size ? `the last ${ended.size}` : "");
  $("held").hidden = !openTable.held;
  const notes = [];
  if (counts.hidden) notes.push(`${number.format(counts.hidden)} more are open and not shown.`);
  if (counts.silent.length) notes.push(`These workers do not answer now: ${counts.silent.join(", ")}.`);
  if (counts.failures) notes.push("The last reload was refused: /readyz says why.");
  if (counts.phase && counts.phase !== "serving") notes.push(`The proxy is ${counts.phase}.`);
  set("notes", notes.join(" "));
  routes();
}

const chips = new Map();
function routes() {
  const busiest = Object.entries(counts.routes).filter(([, count]) => count > 0)
    .sort((a, b) => a[0].localeCompare(b[0])).slice(0, ROUTES);
  const wanted = new Set(busiest.map(([name]) => name));
  for (const [name, chip] of chips) {
    if (!wanted.has(name) && !chip.element.contains(document.activeElement)) { chip.element.remove(); chips.delete(name); }
  }
  for (const [name, count] of busiest) {
    let chip = chips.get(name);
    if (!chip) {
      const button = make("button", { type: "button", className: "stop", textContent: "Stop all", ariaLabel: `Stop all of route ${name}` });
      button.addEventListener("click", () => stop({ route: name }, button));
      const total = make("b");
      const element = make("div", { className: "chip" }, make("span", { textContent: name, title: name }), total, button);
      chip = { element, total };
      chips.set(name, chip);
      $("routes").append(element);
    }
    if (chip.total.textContent !== String(count)) chip.total.textContent = String(count);
  }
}

const openTable = new Table($("open"), rows, openColumns, "id", true);
const endedTable = new Table($("ended"), ended, endedColumns, "at", false);

// Plots.

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
function bars(place, values, label, titles, bad = []) {
  const most = Math.max(1, ...values);
  const width = 240 / values.length;
  const picture = svg("svg", { viewBox: "0 0 240 46", preserveAspectRatio: "none", role: "img", "aria-label": label });
  picture.append(svg("line", { x1: 0, x2: 240, y1: 45.5, y2: 45.5 }));
  values.forEach((value, index) => {
    if (!value) return;
    for (const [count, kind] of [[value, ""], [bad[index] ?? 0, "bad"]]) {
      if (!count) continue;
      const height = Math.max(1.5, (count / most) * 44);
      const bar = svg("rect", { x: index * width + 0.4, y: 45 - height, width: Math.max(1, width - 0.8), height, class: kind });
      const title = svg("title", {});
      title.textContent = titles[index];
      bar.append(title);
      picture.append(bar);
    }
  });
  $(place).replaceChildren(picture);
}
function quantile(values, bounds, part) {
  const total = values.reduce((sum, value) => sum + value, 0);
  let seen = 0;
  for (let index = 0; index < values.length; index += 1) {
    seen += values[index];
    if (total && seen >= total * part) return bounds[Math.min(index, bounds.length - 1)];
  }
  return null;
}
function plots(hour) {
  const { minutes, failed, first, duration, bounds } = hour;
  const total = minutes.reduce((sum, value) => sum + value, 0);
  const wrong = failed.reduce((sum, value) => sum + value, 0);
  const said = `${number.format(total)}${wrong ? `, ${number.format(wrong)} failed` : ""}`;
  set("t-rate", said);
  bars("p-rate", minutes, `Ended in the last hour: ${said}`,
    minutes.map((value, index) => `${minutes.length - 1 - index} min ago: ${value}, ${failed[index]} failed`), failed);
  for (const [name, values, title] of [["first", first, "Time to first content"], ["duration", duration, "Duration"]]) {
    const half = quantile(values, bounds, 0.5);
    const most = quantile(values, bounds, 0.95);
    const words = half === null ? "" : `half ≤ ${seconds(half)}, 95 % ≤ ${seconds(most)}`;
    set(`t-${name}`, words);
    const top = values.reduce((found, value, index) => (value ? index : found), 0);
    bars(`p-${name}`, values.slice(0, Math.max(12, top + 1)), `${title}: ${words || "nothing yet"}`,
      values.map((value, index) => `${index < bounds.length ? `≤ ${seconds(bounds[index])}` : "longer"}: ${value}`));
  }
}

// Stopping.

async function stop(what, button) {
  button.disabled = true;
  try {
    const response = await fetch("api/board/stop", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(what),
    });
    if (!response.ok && response.status !== 404) say("off", (await response.json()).detail);
  } catch (error) {
    say("off", `not stopped: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}
async function stopOne(id, button) {
  const row = rows.get(id);
  if (row) row.stopping = true;
  await stop({ id }, button);
  if (row) row.stopping = false;
  draw();
}

// The link to the proxy.

function say(state, words) {
  $("link").dataset.state = state;
  set("link", "");
  $("link").append(make("i", { ariaHidden: "true" }), make("span", { textContent: words }));
}
let source = null;
function connect() {
  source = new EventSource("api/board/events");
  source.addEventListener("open", () => say("live", "live"));
  source.addEventListener("board", (event) => {
    if ($("link").dataset.state === "wait") say("live", "live");
    take(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      say("off", "the proxy refuses: load the page again");
      setTimeout(connect, 5000);
    } else say("wait", "connecting again");
  });
}

// Controls.

for (const [name, title, value] of openColumns) {
  if (value) $("sort").append(make("option", { value: name, textContent: title }));
}
openTable.onSort = () => {
  $("sort").value = openTable.by;
  set("turn", openTable.up ? "↑" : "↓");
};
openTable.onSort();
$("sort").addEventListener("change", () => openTable.sort($("sort").value, openTable.up));
$("turn").addEventListener("click", () => openTable.sort(openTable.by, !openTable.up));
$("filter").addEventListener("input", () => {
  for (const table of [openTable, endedTable]) table.changed = table.must = true;
  draw();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("filter").focus();
  }
});
const themes = ["", "light", "dark"];
function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").ariaLabel = $("theme").title = `Colours: ${theme || "as the system"}`;
}
let theme = localStorage.getItem("theme") ?? "";
dress(theme);
$("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem("theme", theme);
  dress(theme);
});
// A link leads to a row by its id, or by a text in what was asked for (#find=TEXT) that nobody else has asked for.
let leading = true;
function lead() {
  const sought = new URLSearchParams(location.hash.slice(1)).get("find");
  if (sought) {
    const found = [...rows.values(), ...ended.values()].find((row) => row.target.includes(sought));
    if (!found) return;
    history.replaceState(null, "", `#${found.id}`);
    draw();
  }
  const id = location.hash.slice(1);
  leading = /^\d/.test(id) && !openTable.show(id) && !endedTable.show(id);
}
function follow() {
  leading = true;
  draw();
}
addEventListener("hashchange", follow);
addEventListener("scroll", draw, { passive: true });
addEventListener("resize", () => {
  openTable.height = endedTable.height = undefined;
  draw();
});
setInterval(() => { openTable.changed ||= openTable.by === "rate"; draw(); }, 250);
connect();
