// Zones over the picture: corners moved by pointer and by keyboard, in shares of the picture, as the JSON of `--zones`.

const $ = (id) => document.getElementById(id);
const STEP = 0.01, FINE = 0.001, LEAST = 3;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Drag corners, or focus one and press arrow keys (Shift: finer), + for a corner more, Delete for one less.";

let zones = [], chosen = 0;
const share = (value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000;
const text = () => JSON.stringify({ v: 1, zones: zones.map(({ name, corners }) => ({ name, corners })) });

// The part of the picture's room that the picture itself fills: a video may have bars at its sides.
export function fit(element, width, height) {
  const room = element.getBoundingClientRect(), whole = $("picture").getBoundingClientRect();
  const scale = Math.min(room.width / width, room.height / height), layer = $("layer").style;
  $("layer").hidden = false;
  layer.left = `${room.left - whole.left + (room.width - width * scale) / 2}px`;
  layer.top = `${room.top - whole.top + (room.height - height * scale) / 2}px`;
  layer.width = `${width * scale}px`;
  layer.height = `${height * scale}px`;
}

function read(json) {
  const found = JSON.parse(json).zones;
  const isCorner = (corner) => corner.length === 2 && corner.every((side) => Number.isFinite(side) && side >= 0 && side <= 1);
  const isZone = ({ name, corners }) => typeof name === "string" && name && corners.length >= LEAST && corners.every(isCorner);
  if (!Array.isArray(found) || !found.every(isZone)) throw new TypeError("no zones");
  return found.map(({ name, corners }) => ({ name, corners: corners.map(([x, y]) => [x, y]) }));
}

function changed() {
  chosen = Math.max(0, Math.min(chosen, zones.length - 1));
  $("zone-json").value = zones.length ? text() : "";
  $("zone-json").removeAttribute("aria-invalid");
  $("zone-hint").textContent = zones.length ? HINT : "No zone is drawn yet. Paste a zones.json to go on with it.";
  for (const id of ["zone-name", "zone-remove", "zone-copy"]) $(id).disabled = !zones.length;
  $("zone-name").value = zones[chosen]?.name ?? "";
  localStorage.setItem("zones", text());
  draw();
}

function draw() {
  const outlines = zones.map(({ corners }, number) => {
    const outline = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    outline.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
    outline.classList.toggle("chosen", number === chosen);
    return outline;
  });
  $("outlines").replaceChildren(...outlines);
  const wanted = zones.flatMap(({ corners }, zone) => corners.map((_, at) => [zone, at])), handles = [...$("corners").children];
  handles.slice(wanted.length).forEach((each) => each.remove());
  wanted.forEach(([zone, at], number) => place(handles[number] ?? $("corners").appendChild(handle()), zone, at));
}

function place(button, zone, at) {
  const { name, corners } = zones[zone], [x, y] = corners[at];
  Object.assign(button.dataset, { zone, at });
  Object.assign(button.style, { left: `${100 * x}%`, top: `${100 * y}%` });
  button.setAttribute("aria-label", `Corner ${at + 1} of ${name}: ${(100 * x).toFixed(1)} % across, ${(100 * y).toFixed(1)} % down`);
}

function handle() {
  const button = document.createElement("button");
  button.type = "button";
  button.onfocus = () => {
    chosen = Number(button.dataset.zone);
    changed();
  };
  button.onpointerdown = (event) => {
    button.setPointerCapture(event.pointerId);
    button.focus();
  };
  button.onpointermove = (event) => {
    if (!button.hasPointerCapture(event.pointerId)) return;
    const room = $("layer").getBoundingClientRect();
    move(button, (event.clientX - room.left) / room.width, (event.clientY - room.top) / room.height);
  };
  button.onkeydown = (event) => press(button, event);
  return button;
}

function move(button, x, y) {
  zones[button.dataset.zone].corners[button.dataset.at] = [share(x), share(y)];
  changed();
}

function press(button, event) {
  const { corners } = zones[button.dataset.zone], at = Number(button.dataset.at), [x, y] = corners[at], way = MOVES[event.key];
  const step = event.shiftKey ? FINE : STEP, [right, low] = corners[(at + 1) % corners.length];
  if (way) move(button, x + step * way[0], y + step * way[1]);
  else if (event.key === "+") corners.splice(at + 1, 0, [share((x + right) / 2), share((y + low) / 2)]);
  else if (event.key === "Delete" && corners.length > LEAST) corners.splice(at, 1);
  else return;
  event.preventDefault();
  changed();
}

$("zone-add").onclick = () => {
  const used = new Set(zones.map(({ name }) => name));
  let number = 1;
  while (used.has(`zone${number}`)) number += 1;
  chosen = zones.push({ name: `zone${number}`, corners: [[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]] }) - 1;
  changed();
};
$("zone-remove").onclick = () => {
  zones.splice(chosen, 1);
  changed();
  $("zone-add").focus();
};
$("zone-name").onchange = () => {
  zones[chosen].name = $("zone-name").value.trim() || zones[chosen].name;
  changed();
};
$("zone-json").onchange = () => {
  try {
    zones = $("zone-json").value.trim() ? read($("zone-json").value) : [];
    changed();
  } catch {
    $("zone-json").setAttribute("aria-invalid", "true");
    $("zone-hint").textContent = "This is no zones.json: expected names and three or more corners, in shares from 0 to 1.";
  }
};
$("zone-copy").onclick = async () => {
  $("zone-json").select();
  if (navigator.clipboard) await navigator.clipboard.writeText(text()); // over HTTP this machine's own page has one alone
  else document.execCommand("copy");
  $("zone-hint").textContent = "Copied: save it as zones.json, for yowo-deploy detect --zones zones.json.";
};

try {
  zones = read(localStorage.getItem("zones") ?? '{"zones": []}');
} catch {
  zones = []; // of another version
}
changed();
