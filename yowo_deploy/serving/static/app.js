// The live page: one binary message is JSON and JPEG, drawn together. No library, no request to another machine.

import { fit } from "/zones.js";

const $ = (id) => document.getElementById(id);
const MOST_BARS = 2000, MOST_EVENTS = 200, SILENT_MS = 2000, REDRAW_MS = 200, MOST_LANES = 40;

// The colours of `yowo_deploy.visuals.draw`: Okabe and Ito's, then darker, then lighter.
const PALETTE = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]];
const SHADES = [0, -0.4, 0.5];
const STAGES = ["preprocess", "infer", "postprocess", "link"];

function colourOf(number) {
  const shade = SHADES[Math.floor(number / PALETTE.length) % SHADES.length], end = shade > 0 ? 255 : 0;
  return PALETTE[number % PALETTE.length].map((value) => Math.round(value + (end - value) * Math.abs(shade)));
}
const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;
function inkOn(colour) {
  const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) ** 2 > 0.05 * 1.05 ? "#000" : "#fff";
}
function paint(element, person) {
  const colour = colourOf(Math.max(0, person));
  element.style.background = css(colour);
  element.style.color = inkOn(colour);
}
function node(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function clock(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.floor(seconds)), pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:${pad(Math.floor(whole / 60) % 60)}` : Math.floor(whole / 60)}:${pad(whole % 60)}`;
}
function lasting(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
}

const page = {
  facts: { labels: [], sources: [] }, source: 0, span: 60, socket: null, run: "",
  bars: [], open: [], events: new Map(), people: [], now: 0, size: [16, 9],
  heard: 0, aged: null, frames: 0, speed: {}, lastDraw: 0, recording: null, state: "starting",
};
window.yowo = page; // for tests and for the curious

const label = (kind) => page.facts.labels[kind] ?? `class ${kind}`;

// --- connection -------------------------------------------------------------------------------------------------------

async function connect() {
  try {
    const answer = await fetch("/api/state");
    if (!answer.ok) throw new Error(String(answer.status));
    begin(await answer.json());
  } catch {
    lost();
  }
}

function begin(facts) {
  if (page.run !== facts.run) forget();
  page.facts = facts;
  page.run = facts.run;
  page.source = Math.min(page.source, Math.max(0, facts.sources.length - 1));
  const select = $("source");
  select.replaceChildren(...facts.sources.map((each, number) => Object.assign(node("option", each.name), { value: number })));
  select.value = String(page.source);
  $("pick").hidden = facts.sources.length < 2;
  entitle();
  if (facts.recording) return showRecording(facts.recording);
  if (!facts.sources.length) {
    $("canvas").hidden = true;
    $("empty").hidden = false;
    $("empty").textContent = "The model is served, and no source is watched. Start with yowo-deploy serve --source video.mp4 to see who does what.";
    showState("idle", "no source");
    return alive();
  }
  watch();
}

function entitle() {
  const { sources, model } = page.facts;
  $("title").textContent = [sources.length === 1 && sources[0].name, model].filter(Boolean).join(" · ");
}

function watch() {
  page.socket?.close();
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/watch/${page.source}`);
  socket.binaryType = "arraybuffer";
  page.socket = socket;
  let before = Promise.resolve();
  socket.onmessage = ({ data }) => {
    before = before.then(() => (page.socket === socket ? receive(data) : null)).catch((error) => console.error(error))
      .then(() => socket.readyState === WebSocket.OPEN && socket.send("1"));
  };
  socket.onclose = () => page.socket === socket && lost();
}

function lost() {
  page.socket = null;
  $("banner").textContent = "The server does not answer. Trying again …";
  $("banner").hidden = false;
  showState("lost", "no server");
  setTimeout(connect, 500);
}

function alive() {
  page.heard = performance.now();
  $("banner").hidden = true;
}

function forget() {
  page.bars = []; page.open = []; page.people = []; page.now = 0; page.speed = {};
  page.events.clear();
  drawLanes(); drawEvents(); drawNow();
}

// --- a message --------------------------------------------------------------------------------------------------------

async function receive(data) {
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const jpeg = new Uint8Array(data, 4 + length);
  const image = jpeg.length ? await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })) : null;
  alive();
  page.bars.push(...head.bars);
  if (page.bars.length > MOST_BARS) page.bars.splice(0, page.bars.length - MOST_BARS);
  for (const event of head.events) keepEvent(event);
  if (head.number !== undefined) {
    page.open = head.open; page.people = head.people; page.now = head.time ?? head.frame; page.size = head.size;
    page.aged = { at: performance.now(), ms: head.age_ms };
  } else if (head.state === "ended") page.open = [];
  if (image) {
    draw(image, head);
    image.close();
    page.frames += 1;
    for (const stage of STAGES) page.speed[stage] = 0.9 * (page.speed[stage] ?? head.speed[stage] ?? 0) + 0.1 * (head.speed[stage] ?? 0);
  }
  page.account = head.source;
  showState(head.state, head.note);
  if (performance.now() - page.lastDraw > REDRAW_MS || head.bars.length || head.state !== "live") redraw();
  if (head.events.length) drawEvents();
}

function redraw() {
  page.lastDraw = performance.now();
  drawLanes(); drawNow(); drawLatency();
}

function showState(state, note = "") {
  const words = { live: "live", lost: "reconnecting", ended: "ended", starting: "starting", recorded: "recorded" };
  page.state = state;
  $("state").dataset.state = state;
  $("state-text").textContent = [words[state], note].filter(Boolean).join(": ");
}

function draw(image, head) {
  const canvas = $("canvas"), [width, height] = head.size, ratio = devicePixelRatio || 1;
  const room = $("picture").clientWidth, tall = Math.max(160, 0.68 * innerHeight);
  const scale = Math.min(room / width, tall / height);
  const wide = Math.round(width * scale * ratio), high = Math.round(height * scale * ratio);
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide; canvas.height = high;
    canvas.style.width = `${wide / ratio}px`; canvas.style.height = `${high / ratio}px`;
  }
  fit(canvas, width, height);
  const brush = canvas.getContext("2d", { alpha: false }), x = wide / width, y = high / height;
  brush.drawImage(image, 0, 0, wide, high);
  const line = Math.max(2, Math.round(2 * ratio));
  brush.font = `600 ${Math.round(13 * ratio)}px system-ui, "DejaVu Sans", sans-serif`;
  brush.textBaseline = "middle";
  for (const [who, kind, score, x1, y1, x2, y2] of [...head.people].reverse()) {
    const colour = colourOf(who < 0 ? kind : who);
    const [left, top, right, low] = [x1 * x, y1 * y, x2 * x, y2 * y].map(Math.round);
    brush.fillStyle = css(colour);
    brush.fillRect(left, top, line, low - top);
    brush.fillRect(right - line, top, line, low - top);
    brush.fillRect(left, top, right - left, line);
    brush.fillRect(left, low - line, right - left, line);
    const text = `${who < 0 ? "" : `#${who} `}${label(kind)} ${score.toFixed(2)}`, high2 = Math.round(20 * ratio);
    const wide2 = Math.min(wide, brush.measureText(text).width + 10 * ratio), at = Math.max(0, Math.min(left, wide - wide2));
    const up = top >= high2 ? top - high2 : Math.min(low, high - high2);
    brush.fillRect(at, up, wide2, high2);
    brush.fillStyle = inkOn(colour);
    brush.fillText(text, at + 5 * ratio, up + high2 / 2, wide2 - 8 * ratio);
  }
  page.drawn = { number: head.number, people: head.people, scale: [x, y], line };
}

// --- who does what now ------------------------------------------------------------------------------------------------

function since(who) {
  const mine = page.open.filter((bar) => bar[0] === who).at(-1);
  return mine ? page.now - mine[3] : null;
}

function drawNow() {
  $("no-one").hidden = page.people.length > 0;
  $("now").replaceChildren(...page.people.map(([who, kind, score]) => {
    const row = node("li"), chip = node("span", who < 0 ? "–" : `#${who}`, "who"), what = node("span", label(kind), "what");
    paint(chip, who < 0 ? kind : who);
    const time = since(who);
    if (time !== null && time >= 0) what.append(node("small", `for ${lasting(time)}`));
    row.append(chip, what, node("span", score.toFixed(2), "sure"));
    return row;
  }));
}

// --- lanes ------------------------------------------------------------------------------------------------------------

function window_() {
  const all = [...page.bars, ...page.open];
  const first = all.reduce((least, bar) => Math.min(least, bar[3] ?? 0), page.now);
  const end = page.recording ? page.recording.duration : page.now;
  if (!page.span) return [first, Math.max(end, first + 1)];
  const stop = page.recording ? Math.min(end, Math.max(page.span, page.now + page.span / 2)) : end;
  return [stop - page.span, stop];
}

function drawLanes() {
  const [start, stop] = window_(), whole = Math.max(1e-6, stop - start), lanes = new Map();
  const shown = [...page.bars.map((bar) => [...bar, false]), ...page.open.map((bar) => [...bar.slice(0, 4), bar[4] ?? page.now, bar[4] === null])];
  for (const bar of shown) {
    if (bar[4] < start || bar[3] > stop) continue;
    if (!lanes.has(bar[0])) lanes.set(bar[0], []);
    lanes.get(bar[0]).push(bar);
  }
  const focused = document.activeElement?.dataset?.bar;
  const rows = [...lanes].sort((a, b) => b[1].at(-1)[4] - a[1].at(-1)[4] || a[0] - b[0]).slice(0, MOST_LANES).map(([who, bars]) => {
    const row = node("div", "", "lane"), chip = node("span", `#${who}`, "who"), track = node("div", "", "track");
    paint(chip, who);
    track.append(...bars.map((bar) => barOf(bar, start, whole)));
    if (page.recording) {
      const cursor = node("span", "", "cursor");
      cursor.style.left = `${(100 * (page.now - start)) / whole}%`;
      track.append(cursor);
    }
    row.append(chip, track);
    row.dataset.person = who;
    return row;
  });
  $("lanes").replaceChildren(...rows);
  const bars = [...$("lanes").querySelectorAll(".bar")];
  const again = bars.find((each) => each.dataset.bar === focused);
  (again ?? bars.at(-1))?.setAttribute("tabindex", "0");
  again?.focus({ preventScroll: true });
  drawAxis(start, whole);
}

function barOf([who, kind, score, from, to, open], start, whole) {
  const bar = node("button", label(kind), open ? "bar open" : "bar");
  bar.type = "button";
  bar.tabIndex = -1;
  bar.dataset.bar = `${who} ${kind} ${from}`;
  bar.dataset.to = to;
  const left = Math.max(0, (from - start) / whole), right = Math.min(1, (to - start) / whole);
  bar.style.left = `${100 * left}%`;
  bar.style.width = `${100 * Math.max(0, right - left)}%`;
  paint(bar, who);
  const said = `Person ${who}: ${label(kind)}, ${clock(from)} to ${open ? "now" : clock(to)}, ${lasting(Math.max(0, to - from))}`;
  bar.setAttribute("aria-label", score === null ? said : `${said}, score ${score.toFixed(2)}`);
  bar.onmouseenter = bar.onfocus = () => { $("detail").textContent = bar.getAttribute("aria-label"); };
  bar.onclick = () => seek(from);
  return bar;
}

function drawAxis(start, whole) {
  const ticks = innerWidth < 600 ? 3 : 6, axis = $("axis");
  axis.replaceChildren(...Array.from({ length: ticks + 1 }, (_, number) => {
    const at = start + (whole * number) / ticks;
    const tick = node("span", page.recording || page.span === 0 ? clock(at) : number === ticks ? "now" : `−${lasting(Math.round(start + whole - at)).replace(".0 ", " ")}`);
    tick.style.left = `${(100 * number) / ticks}%`;
    return tick;
  }));
}

$("lanes").addEventListener("keydown", (event) => {
  const lanes = [...document.querySelectorAll(".lane")], bar = event.target.closest(".bar");
  if (!bar) return;
  const lane = bar.closest(".lane"), bars = [...lane.querySelectorAll(".bar")], at = bars.indexOf(bar), row = lanes.indexOf(lane);
  const next = { ArrowLeft: bars[at - 1], ArrowRight: bars[at + 1], Home: bars[0], End: bars.at(-1),
    ArrowUp: lanes[row - 1]?.querySelector(".bar"), ArrowDown: lanes[row + 1]?.querySelector(".bar") }[event.key];
  if (!next) return;
  event.preventDefault();
  bar.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

for (const button of document.querySelectorAll("[data-span]")) {
  button.onclick = () => {
    page.span = Number(button.dataset.span);
    for (const each of document.querySelectorAll("[data-span]")) each.setAttribute("aria-pressed", String(each === button));
    drawLanes();
  };
}

// --- latency ----------------------------------------------------------------------------------------------------------

function drawLatency() {
  const budget = page.account?.fps ? 1000 / page.account.fps : 40;
  const total = STAGES.reduce((sum, stage) => sum + (page.speed[stage] ?? 0), 0), whole = Math.max(budget, total) * 1.04 || 1;
  const strip = $("strip"), colours = [PALETTE[1], PALETTE[4], PALETTE[2], PALETTE[6]].map(css);
  if (strip.childElementCount !== STAGES.length + 1) {
    strip.replaceChildren(...STAGES.map((_, number) => node("i")), node("b"));
    STAGES.forEach((_, number) => { strip.children[number].style.background = colours[number]; });
  }
  STAGES.forEach((stage, number) => { strip.children[number].style.width = `${(100 * (page.speed[stage] ?? 0)) / whole}%`; });
  strip.lastElementChild.style.left = `${(100 * budget) / whole}%`;
  strip.setAttribute("aria-label", `${total.toFixed(1)} of ${budget.toFixed(0)} milliseconds`);
  const line = (colour, name, value) => {
    const chip = node("span", "", "chip");
    chip.style.background = colour;
    const row = node("div"), term = node("dt", name);
    term.prepend(chip);
    row.append(term, node("dd", `${value.toFixed(1)} ms`));
    return row;
  };
  const rows = STAGES.map((stage, number) => line(colours[number], stage, page.speed[stage] ?? 0));
  $("stages").replaceChildren(...rows, line("var(--ink)", "budget of a frame", budget));
  const account = page.account ?? {};
  const parts = [account.captured !== undefined && `${account.captured} frames captured`, account.dropped && `${account.dropped} dropped`,
    account.suspect && `${account.suspect} suspect`, account.reconnects && `${account.reconnects} reconnects`];
  $("account").textContent = parts.filter(Boolean).join(", ");
}

// --- events -----------------------------------------------------------------------------------------------------------

function keepEvent(event) {
  page.events.delete(event.id);
  page.events.set(event.id, event);
  while (page.events.size > MOST_EVENTS) page.events.delete(page.events.keys().next().value);
}

function chosenEvents() {
  const asked = $("filter").value.trim().toLowerCase();
  const fits = (event) => !asked || event.label.toLowerCase().includes(asked) || `#${event.person_id}` === asked;
  return [...page.events.values()].filter(fits).sort((a, b) => (b.start_time ?? b.frame) - (a.start_time ?? a.frame));
}

function drawEvents() {
  const chosen = chosenEvents();
  $("no-events").hidden = chosen.length > 0;
  $("no-events").textContent = page.events.size ? "No event fits the filter." : "Nothing has begun yet.";
  $("events").replaceChildren(...chosen.map((event) => {
    const row = node("tr"), who = node("td"), chip = node("span", `#${event.person_id}`, "who");
    paint(chip, event.person_id);
    who.append(chip);
    const known = event.end_time !== null && event.start_time !== null;
    row.append(node("td", clock(event.start_time)), who, node("td", event.label),
      node("td", known ? lasting(event.end_time - event.start_time) : event.type === "end" ? "–" : "still"), node("td", event.top_score.toFixed(2)));
    return row;
  }));
}
$("filter").oninput = drawEvents;
$("download").onclick = () => {
  const lines = chosenEvents().reverse().map((event) => `${JSON.stringify(event)}\n`);
  const link = Object.assign(node("a"), { href: URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" })), download: "events.jsonl" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// --- recordings -------------------------------------------------------------------------------------------------------

async function showRecording(about) {
  if (page.recording) return alive();
  const answer = await fetch(about.data);
  if (!answer.ok) return lost();
  const data = await answer.json(), video = $("video");
  page.recording = { ...data, duration: data.duration };
  page.bars = data.bars; page.span = 0;
  for (const each of document.querySelectorAll("[data-span]")) each.setAttribute("aria-pressed", String(each.dataset.span === "0"));
  for (const event of data.events) keepEvent(event);
  $("canvas").hidden = true;
  $("latency").hidden = true;
  $("age-name").textContent = "time";
  video.hidden = false;
  video.src = about.video;
  video.ontimeupdate = video.onseeked = showMoment;
  const step = () => { showMoment(); if (!video.paused) video.requestVideoFrameCallback?.(step); };
  video.onplay = step;
  video.onloadedmetadata = () => { page.recording.duration = Math.max(page.recording.duration, video.duration || 0); showMoment(); };
  showState("recorded");
  alive();
  drawEvents();
  showMoment();
}

function showMoment() {
  const { times, people } = page.recording, now = $("video").currentTime;
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= now + 1e-3) low = middle + 1; else high = middle;
  }
  page.now = now;
  page.people = low ? people[low - 1] : [];
  page.open = [];
  $("age").textContent = clock(now);
  if ($("video").videoWidth) fit($("video"), $("video").videoWidth, $("video").videoHeight);
  drawNow(); drawLanes();
}

function seek(seconds) {
  if (page.recording) $("video").currentTime = seconds;
}

// --- clockwork --------------------------------------------------------------------------------------------------------

setInterval(() => {
  if (page.recording || !page.facts.sources.length) return;
  if (page.socket && page.heard && performance.now() - page.heard > SILENT_MS) {
    $("banner").textContent = "Nothing comes from the server. Waiting …";
    $("banner").hidden = false;
  }
  if (!page.aged) return;
  const age = page.aged.ms + performance.now() - page.aged.at, old = age > 1000 && page.state !== "ended";
  $("age").textContent = page.state === "ended" ? "–" : age < 1000 ? `${Math.round(age)} ms` : `${(age / 1000).toFixed(1)} s`;
  $("age").dataset.old = String(old);
}, 200);

$("source").onchange = () => {
  page.source = Number($("source").value);
  forget();
  entitle();
  watch();
};

const root = document.documentElement, theme = localStorage.getItem("theme");
if (theme) root.dataset.theme = theme;
$("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
};

drawEvents();
drawLatency();
connect();
