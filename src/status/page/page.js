"use strict";
// Asks the agent how it is, again and again, and shows it. Rows are kept and only what has changed is written, so that text that
// somebody has selected stays selected. What is shown came from devices and servers: it is text, never markup.

const ROWS = 50, POINTS = 100, PAUSE = 2000, PATIENCE = 10000, HIDDEN = 15000;
const STATES = ["down", "degraded", "starting", "up"];
const MARKS = { up: "✓", degraded: "!", down: "✗", starting: "…" };
const SVG = "http://www.w3.org/2000/svg";
const at = id => document.getElementById(id);
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const grouped = new Intl.NumberFormat();
const number = n => n === null || n === undefined ? "–" : grouped.format(n);

// How far back a plot goes: 0 days is the hour that the agent keeps itself.
const SPANS = [["last hour", 0], ["last day", 1], ["last week", 7], ["last month", 31]];
let span = 0, past = null;
let status = null, detail = null, lines = [], answered = null, wanted = null, plotted = null, page = 0, pointPage = 0;
const shown = new Set(STATES);

// ---- elements ----

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function drawn(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function write(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, className) {
  if (node.getAttribute("class") !== className) node.setAttribute("class", className);
}

// The children of `parent` become one for each of `items`; what was made for a key stays.
function keyed(parent, items, key, make, update) {
  const before = parent.made || new Map(), now = new Map();
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const child = before.get(name) || make(item);
    now.set(name, child);
    update(child, item);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  for (const [name, child] of before) if (now.get(name) !== child) child.remove();
  parent.made = now;
}

function row(heads) {
  const tr = element("tr");
  for (const [place, [head, className]] of heads.entries()) {
    const cell = element(place === 0 ? "th" : "td", className);
    if (place === 0) cell.scope = "row";
    cell.dataset.head = head;
    tr.append(cell);
  }
  return tr;
}

// A text with a smaller one below it.
function twoLines(cell, text, small) {
  if (!cell.lines) cell.append(...(cell.lines = [element("span"), element("small")]));
  write(cell.lines[0], text);
  write(cell.lines[1], small || "");
  cell.lines[1].hidden = !small;
}

// ---- words ----

function lasted(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

const passed = (time, now) => time ? lasted(Date.parse(now) - Date.parse(time)) : null;
const ago = (time, now) => time ? `${passed(time, now)} ago` : "never";

function when(node, text, time) {
  write(node, text);
  const title = time ? new Date(time).toLocaleString() : "";
  if (node.title !== title) node.title = title;
}

function bytes(n) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (n >= size) return `${(n / size).toPrecision(3)} ${unit}`;
  return `${n} bytes`;
}

function value(point) {
  if (point.value === null) return "–";
  const text = Number.isInteger(point.value) ? number(point.value) : String(Number(point.value.toPrecision(9)));
  const unit = point.unit_of_measurement ? ` ${point.unit_of_measurement}` : "";
  return point.text ? `${point.text} (${text}${unit})` : text + unit;
}

const nameOf = device => device.label || device.name;
const whyOf = device => device.troubles.map(trouble => `${trouble.what}: ${trouble.cause}`).join("; ");

// ---- plots ----

const KINDS = { "+": "good", "~": "odd", "!": "bad", ".": "odd", "-": "none" };

function hour(svg, text) {
  if (svg.shown === text) return;
  svg.shown = text;
  const minutes = { good: 0, odd: 0, bad: 0, none: 0 }, bars = [];
  for (let from = 0, to = 0; from < text.length; from = to) {
    const kind = KINDS[text[from]] || "none";
    while (to < text.length && (KINDS[text[to]] || "none") === kind) to += 1;
    minutes[kind] += to - from;
    bars.push(drawn("rect", { x: from, y: 0, width: to - from, height: 10, class: kind }));
  }
  svg.replaceChildren(...bars);
  const words = [["up", minutes.good], ["not everything", minutes.odd], ["down", minutes.bad], ["not known", minutes.none]];
  const label = words.filter(([, n]) => n > 0).map(([word, n]) => `${word} for ${n} min`).join(", ");
  svg.setAttribute("aria-label", label);
}

// Lines through what is known; a sample that is missing is a gap.
function curves(samples, x, y) {
  const drawings = [];
  let run = [];
  const end = () => {
    if (run.length === 1) drawings.push(drawn("circle", { cx: run[0][0], cy: run[0][1], r: 1 }));
    if (run.length > 1) drawings.push(drawn("polyline", { points: run.map(point => point.join(",")).join(" ") }));
    run = [];
  };
  // Samples are rarer than polls at times: a gap of one is none.
  samples.forEach((sample, i) => {
    if (sample !== null) run.push([x(i), y(sample)]);
    else if (i === 0 || samples[i - 1] === null) end();
  });
  end();
  return drawings;
}

function range(samples) {
  const known = samples.filter(sample => sample !== null);
  if (known.length === 0) return null;
  const low = Math.min(...known), high = Math.max(...known);
  return { low, high, span: high - low || 1 };
}

function spark(svg, samples) {
  const text = samples.join();
  if (svg.shown === text) return;
  svg.shown = text;
  const seen = range(samples);
  svg.setAttribute("viewBox", `0 0 ${samples.length} 20`);
  svg.replaceChildren(...(seen ? curves(samples, i => i + 0.5, v => seen.high === seen.low ? 10 : 18 - 16 * (v - seen.low) / seen.span) : []));
}

const short = n => String(Number(n.toPrecision(6)));

function large(samples, every) {
  const svg = at("large"), width = svg.clientWidth || 800, height = svg.clientHeight || 200, left = 80, bottom = 22, top = 10;
  const seen = range(samples);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!seen) return svg.replaceChildren();
  const x = i => left + (width - left - 10) * i / Math.max(1, samples.length - 1);
  const y = v => seen.high === seen.low ? (top + height - bottom) / 2 : height - bottom - (height - bottom - top) * (v - seen.low) / seen.span;
  const parts = [];
  const ticks = seen.high === seen.low ? [seen.low] : [seen.low, seen.low + seen.span / 2, seen.high];
  for (const tick of ticks) {
    parts.push(drawn("line", { class: "axis", x1: left, x2: width - 10, y1: y(tick), y2: y(tick) }));
    parts.push(drawn("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const [share, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const text = share === 1 ? "now" : `${lasted(1000 * samples.length * every * (1 - share))} ago`;
    parts.push(drawn("text", { x: left + (width - left - 10) * share, y: height - 4, "text-anchor": anchor }, text));
  }
  svg.replaceChildren(...parts, ...curves(samples, x, y));
}

// ---- what is shown ----

const VERDICTS = {
  good: ["✓", "#176c33"], warning: ["!", "#b26a00"], error: ["✗", "#b3261e"], gone: ["?", "#666"], waiting: ["…", "#666"],
};

function banner() {
  let kind = "waiting", headline = "Asking the agent how it is", problems = [];
  if (answered && answered.failed) {
    kind = "gone";
    headline = status ? `The agent does not answer for ${lasted(Date.now() - answered.at)}` : "The agent does not answer";
    problems = [status ? "What is shown below is of then." : "Is it running? This page asks again by itself."];
  } else if (status) {
    problems = status.problems.map(problem => problem.text);
    kind = status.problems.some(problem => problem.severity === "error") ? "error" : problems.length > 0 ? "warning" : "good";
    const starting = status.polling.starting;
    headline = problems.length > 1 ? `${problems.length} things are not as they should be`
      : problems.length === 1 ? "One thing is not as it should be"
      : starting > 0 ? `Starting: ${number(starting)} of ${number(status.polling.devices)} devices are asked for the first time` : "All is well";
  }
  const [sign, colour] = VERDICTS[kind];
  mark(at("banner"), `banner ${kind}`);
  write(document.querySelector(".mark"), sign);
  write(at("headline"), headline);
  keyed(at("problems"), problems, text => text, () => element("li"), write);
  document.body.classList.toggle("gone", kind === "gone");
  const title = `${sign} ${status ? status.hostname : location.host} – ${kind === "good" ? "all is well" : headline}`;
  if (document.title !== title) document.title = title;
  const icon = `<svg xmlns="${SVG}" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="${colour}"/><text x="8" y="12" font-size="12" font-family="sans-serif" font-weight="bold" text-anchor="middle" fill="white">${sign}</text></svg>`;
  const href = "data:image/svg+xml," + encodeURIComponent(icon);
  if (at("icon").href !== href) at("icon").href = href;
}

function facts(parent, list) {
  const make = ([head]) => element("div", "", element("dt", "", head), element("dd"));
  keyed(parent, list, ([head]) => head, make, (box, [, text, small, className]) => {
    mark(box.lastElementChild, className || "");
    twoLines(box.lastElementChild, text, small);
  });
}

function glance() {
  const { polling, outputs, cache, clock, books, now } = status;
  const lost = Object.entries(books.lost_by_reason).filter(([, n]) => n > 0).map(([why, n]) => `${why} ${number(n)}`).join(", ");
  const waiting = Math.max(0, ...outputs.map(output => output.readings.on_disk + output.readings.in_memory));
  facts(at("facts"), [
    ["Devices", `${number(polling.up + polling.degraded)} of ${number(polling.devices)}`, "answer"],
    ["Points", number(polling.points), polling.refused ? `${number(polling.refused)} refused` : ""],
    ["Readings a minute", number(polling.readings_per_minute), polling.overruns ? `${number(polling.overruns)} polls skipped` : ""],
    ["Waiting", number(waiting), waiting && cache.oldest ? `the oldest of ${ago(cache.oldest, now)}` : ""],
    ["Cache on disk", bytes(cache.bytes), cache.undated ? `${number(cache.undated)} without a date` : ""],
    ["Lost", number(books.lost), lost || "since the start", books.lost ? "lost" : ""],
    ["Clock", clock.good ? "good" : "not believed", clock.good ? "" : clock.state],
    ["Running", passed(status.started, now), `version ${status.version}`],
  ]);
}

const OUTPUT = [["", "first"], ["", "broad state"], ["delivered", "number"], ["a minute", "number wide"], ["waiting", "number"], ["oldest", "age wide"], ["lost", "number"], ["last post", "age"]];

function outputs() {
  keyed(at("outputs"), status.outputs, output => output.name, () => row(OUTPUT), (tr, output) => {
    const [name, state, delivered, rate, waiting, oldest, lost, last] = tr.cells;
    const { server, readings } = output, failing = server.failing_since;
    twoLines(name, output.name, `${output.kind}, ${server.address}`);
    mark(state, `broad state ${failing ? "down" : server.last_success ? "up" : "starting"}`);
    const next = server.next_attempt ? `; tried again in ${lasted(Math.max(0, Date.parse(server.next_attempt) - Date.parse(status.now)))}` : "";
    twoLines(state, failing ? `✗ fails for ${passed(failing, status.now)}` : server.last_success ? "✓ delivers" : "… nothing yet", failing ? `${server.cause || ""}${next}` : "");
    write(delivered, number(readings.delivered));
    write(rate, number(output.delivered_per_minute));
    write(waiting, number(readings.on_disk + readings.in_memory));
    when(oldest, output.oldest ? ago(output.oldest, status.now) : "", output.oldest);
    mark(lost, readings.lost ? "number lost" : "number");
    write(lost, number(readings.lost));
    when(last, ago(server.last_success, status.now), server.last_success);
  });
}

const SORTS = {
  state: (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state),
  name: () => 0,
  group: (a, b) => collator.compare(a.groups.join(), b.groups.join()),
  last_poll: (a, b) => (a.last_poll || "").localeCompare(b.last_poll || ""),
  took: (a, b) => b.took - a.took,
  failures: (a, b) => b.failures - a.failures,
};

function chosen() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(word => word);
  const text = device => `${device.label || ""} ${device.name} ${device.groups.join(" ")} ${whyOf(device)}`.toLowerCase();
  const devices = status.devices.filter(device => shown.has(device.state) && words.every(word => text(device).includes(word)));
  const by = SORTS[at("sort").value];
  return devices.sort((a, b) => by(a, b) || collator.compare(nameOf(a), nameOf(b)));
}

const DEVICE = [["", "first"], ["", "wide"], ["", "state"], ["since", "broad cause"], ["", "broad"], ["polled", "age"], ["took", "number"], ["failures", "number wide"], ["points", "number"]];

function devices() {
  const states = STATES.filter(state => status.devices.some(device => device.state === state) || !shown.has(state));
  keyed(at("states"), states, state => state, stateButton, (button, state) => {
    button.setAttribute("aria-pressed", shown.has(state));
    write(button, `${MARKS[state]} ${state} ${number(status.polling[state])}`);
  });
  const all = chosen(), pages = Math.max(1, Math.ceil(all.length / ROWS));
  page = Math.min(page, pages - 1);
  at("none").hidden = all.length > 0;
  at("table").hidden = all.length === 0;
  keyed(at("devices"), all.slice(page * ROWS, (page + 1) * ROWS), device => device.name, deviceRow, (tr, device) => {
    const [name, group, state, since, bars, polled, took, failures, points] = tr.cells;
    const link = name.firstElementChild;
    write(link, nameOf(device));
    write(name.lastElementChild, device.label ? device.name : "");
    name.lastElementChild.hidden = !device.label;
    write(group, device.groups.join(", "));
    mark(state, `state ${device.state}`);
    write(state, `${MARKS[device.state]} ${device.state}`);
    const why = whyOf(device), first = why.length > 160 ? why.slice(0, 160) + "…" : why;
    twoLines(since, ago(device.since, status.now), first);
    hour(bars.firstElementChild, device.hour);
    when(polled, ago(device.last_poll, status.now), device.last_poll);
    write(took, device.polls ? `${(device.took * 1000).toFixed(device.took < 0.01 ? 1 : 0)} ms` : "–");
    write(failures, number(device.failures));
    write(points, device.refused ? `${number(device.points - device.refused)} of ${number(device.points)}` : number(device.points));
  });
  pager("pages", "page", "before", "next", page, pages, `${number(all.length)} devices`);
}

function stateButton(state) {
  const button = element("button");
  button.type = "button";
  button.addEventListener("click", () => {
    if (!shown.delete(state)) shown.add(state);
    show();
  });
  return button;
}

function deviceRow(device) {
  const tr = row(DEVICE), link = element("a");
  link.href = "#" + encodeURIComponent(device.name);
  tr.cells[0].append(link, element("small"));
  tr.cells[4].append(drawn("svg", { class: "hour", viewBox: "0 0 60 10", preserveAspectRatio: "none", role: "img" }));
  return tr;
}

function pager(nav, text, before, next, place, pages, what) {
  at(nav).hidden = pages === 1;
  write(at(text), `Page ${place + 1} of ${pages}, ${what}`);
  at(before).disabled = place === 0;
  at(next).disabled = place + 1 >= pages;
}

const POINT = [["", "first"], ["", ""], ["", "number"], ["read", "age"], ["", "broad"], ["", "broad why"]];

function one() {
  const { device, now, sampled_every: every } = detail;
  write(at("detail-title"), device.label ? `${device.label} (${device.name})` : device.name);
  facts(at("about"), [
    ["State", `${MARKS[device.state]} ${device.state}`, `since ${ago(device.since, now)}`, device.state],
    ["Groups", device.groups.join(", ") || "–"],
    ["Last poll", ago(device.last_poll, now), `took ${(device.took * 1000).toFixed(1)} ms`],
    ["Last reading", ago(device.last_good, now)],
    ["Polls", number(device.polls), device.overruns ? `${number(device.overruns)} skipped` : ""],
    ["Failures", number(device.failures)],
    ["Points", number(device.points), device.refused ? `${number(device.refused)} refused` : ""],
  ]);
  const troubles = device.troubles.map(trouble => `${trouble.what}, since ${ago(trouble.since, now)}: ${trouble.cause}`);
  keyed(at("troubles"), [...troubles, ...device.learned.map(text => `learned: ${text}`)], text => text, () => element("li"), write);
  at("unplotted").hidden = every !== null;
  write(at("unplotted"), "There are too many points for plots: the memory for them is limited.");
  const pages = Math.max(1, Math.ceil(device.values.length / POINTS));
  pointPage = Math.min(pointPage, pages - 1);
  keyed(at("points"), device.values.slice(pointPage * POINTS, (pointPage + 1) * POINTS), keyOf, pointRow, (tr, point) => {
    const [name, register, read, age, plot, why] = tr.cells;
    twoLines(name, point.name || point.key, point.name ? point.key : "");
    write(register, `unit ${point.unit}, ${point.table.replace("_", " ")} ${point.register}`);
    write(read, value(point));
    when(age, ago(point.read, now), point.read);
    plot.firstElementChild.hidden = !range(point.samples || []);
    if (point.samples) spark(plot.firstElementChild.firstElementChild, point.samples);
    write(why, point.why || "");
  });
  pager("point-pages", "points-page", "points-before", "points-next", pointPage, pages, `${number(device.values.length)} points`);
  const point = device.values.find(point => keyOf(point) === plotted);
  at("figure").hidden = !point;
  if (point) plot(point, every);
}

function plot(point, every) {
  const days = SPANS[span][1], samples = days ? past && past.of === `${plotted} ${days}` ? past.samples : [] : point.samples || [];
  const seen = range(samples), unit = point.unit_of_measurement ? ` ${point.unit_of_measurement}` : "";
  const between = seen ? `from ${short(seen.low)} to ${short(seen.high)}${unit}` : past && past.why && days ? past.why : "no value";
  write(at("caption"), `${point.name || point.key}, ${SPANS[span][0]}: ${between}; now ${value(point)}`);
  keyed(at("spans"), status.has_history ? SPANS : [], ([text]) => text, spanButton, (button, [, back]) => {
    button.setAttribute("aria-pressed", back === days);
  });
  large(samples, days && past ? past.every : every || 20);
}

function spanButton([text, days]) {
  const button = element("button", "", text);
  button.type = "button";
  button.addEventListener("click", () => {
    span = SPANS.findIndex(([, other]) => other === days);
    remember();
    show();
  });
  return button;
}

// Asks for the days of the point that is plotted, once for each look at it.
async function remember() {
  const point = detail && detail.device.values.find(point => keyOf(point) === plotted), days = SPANS[span][1];
  if (!point || !days) return;
  const of = `${plotted} ${days}`;
  past = { of, samples: [], every: 1, why: "asking the database" };
  const question = new URLSearchParams({ name: detail.device.name, unit: point.unit, key: point.key, days });
  try {
    const answer = await ask(`history.json?${question}`);
    if (past.of === of) past = { of, samples: answer.samples, every: answer.sampled_every };
  } catch (error) {
    if (past.of === of) past.why = "the database does not answer; try again";
  }
  show();
}

const keyOf = point => `${point.unit} ${point.group} ${point.key}`;

function pointRow(point) {
  const tr = row(POINT), button = element("button", "plot", drawn("svg", { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" }));
  button.type = "button";
  button.setAttribute("aria-label", `Plot ${point.name || point.key}`);
  button.addEventListener("click", () => {
    plotted = plotted === keyOf(point) ? null : keyOf(point);
    remember();
    show();
    at("figure").scrollIntoView({ block: "nearest" });
  });
  tr.cells[4].append(button);
  return tr;
}

function log() {
  const box = at("log"), atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 5;
  let same = 0;
  const seen = new Map();
  const key = line => {
    const text = `${line.time} ${line.message}`;
    same = (seen.get(text) || 0) + 1;
    seen.set(text, same);
    return `${text} ${same}`;
  };
  const make = line => {
    const time = element("time", "", new Date(line.time).toLocaleTimeString());
    time.dateTime = line.time;
    return element("li", line.level, time, ` ${line.level === "INFO" ? "" : line.level + " "}${line.message}`);
  };
  keyed(box, lines, key, make, () => {});
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function show() {
  banner();
  if (!status) return;
  write(at("host"), status.hostname);
  glance();
  outputs();
  const open = wanted !== null && detail && detail.device.name === wanted;
  at("detail").hidden = wanted === null;
  at("list").hidden = at("servers").hidden = wanted !== null;
  if (open) one();
  else if (wanted === null) devices();
  log();
  write(at("agent"), `agent ${status.agent_id}, process ${status.pid}; read at ${new Date(status.now).toLocaleString()}`);
}

// ---- asking ----

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  return answer.ok ? answer.json() : Promise.reject(new Error(answer.status));
}

let round = 0;

async function look() {
  const mine = ++round, begun = Date.now(), name = wanted;
  try {
    const questions = [ask("status.json?values=no"), ask("log.json")];
    if (name !== null) questions.push(ask(`device.json?name=${encodeURIComponent(name)}`).catch(error => error.message === "404" ? null : Promise.reject(error)));
    const [now, last, device] = await Promise.all(questions);
    if (mine !== round) return;
    status = now;
    lines = last.lines;
    if (name !== null) {
      detail = device;
      if (!device) write(at("detail-title"), `There is no device ${name}`);
    }
    answered = { at: Date.now(), failed: false };
  } catch (error) {
    if (mine !== round) return;
    answered = { at: answered ? answered.at : Date.now(), failed: true };
  }
  show();
  // Thousands of devices take their time: nobody is asked more than a fifth of it.
  const pause = Math.max(document.hidden ? HIDDEN : PAUSE, 4 * (Date.now() - begun));
  setTimeout(() => { if (mine === round) look(); }, answered.failed ? PAUSE : pause);
}

function go() {
  const name = decodeURIComponent(location.hash.slice(1));
  const other = (name || null) !== wanted;
  wanted = name || null;
  if (other) {
    detail = null;
    plotted = null;
    pointPage = 0;
    at("points").replaceChildren();
    at("points").made = new Map();
    write(at("detail-title"), name);
  }
  show();
  if (wanted !== null && other) at("detail-title").focus();
  look();
}

at("filter").addEventListener("submit", event => event.preventDefault());
at("search").addEventListener("input", () => { page = 0; show(); });
at("sort").addEventListener("change", () => { page = 0; show(); });
for (const [id, turn] of [["before", () => { page -= 1; }], ["next", () => { page += 1; }], ["points-before", () => { pointPage -= 1; }], ["points-next", () => { pointPage += 1; }]]) {
  at(id).addEventListener("click", () => { turn(); show(); });
}
at("back").addEventListener("click", event => { event.preventDefault(); history.pushState(null, "", location.pathname); go(); at("search").focus(); });
addEventListener("hashchange", go);
addEventListener("popstate", go);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
document.addEventListener("keydown", event => {
  const writing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !writing && wanted === null) { event.preventDefault(); at("search").focus(); }
  if (event.key === "Escape" && wanted !== null) at("back").click();
});
go();
