// What stands around the picture: the nodes, their logs, the list of events, the whole run in one line.

const element = (id) => document.getElementById(id);

/** An element with texts and elements in it. Texts are never read as anything else. */
function make(name, attributes, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

const swatch = (color, kind = "") => make("span", { class: `swatch ${kind}`, style: `background: var(--${color})` });

// The nodes.

const NODE_COLUMNS = [
  ["node", "The server"],
  ["role", "What it is doing"],
  ["term", "The election that it is in"],
  ["vote", "Whom it has voted for in this term"],
  ["commit", "Entries through here are safe, as far as it knows"],
  ["applied", "Commands through here are executed"],
  ["last", "Its last entry"],
  ["on disk", "Entries through here are on its disk"],
  ["snapshot", "Entries through here are in its snapshot"],
  ["", "What is wrong with it"],
];
const CELLS = [];

function buildNodes() {
  const table = element("nodes");
  table.append(make("tr", {}, ...NODE_COLUMNS.map(([name, title]) => make("th", { title, scope: "col" }, name))));
  NODES.forEach((node, at) => {
    const cells = NODE_COLUMNS.map(() => make("td", {}));
    cells[0].append(node.name);
    const dot = make("span", { class: "swatch" }), text = document.createTextNode("");
    cells[1].append(dot, text);
    const row = make("tr", { title: node.role }, ...cells);
    CELLS[at] = { row, cells, dot, text };
    table.append(row);
  });
}

/** Changes only what differs: this runs for every step of the slider. */
function show(target, text) {
  if (target.data !== undefined ? target.data !== text : target.textContent !== text) {
    if (target.data !== undefined) target.data = text; else target.textContent = text;
  }
}

function drawNodes() {
  NODES.forEach((_, node) => {
    const state = stateAt(node, VIEW.event);
    const { row, cells, dot, text } = CELLS[node];
    const is_down = !state || (state.flags & DOWN) !== 0;
    const role = is_down ? null : ROLES[state.role];
    show(text, is_down ? "down" : ROLE_NAMES[state.role]);
    dot.style.background = role ? `var(--${role})` : "none";
    const numbers = state
      ? [state.term, state.vote ? `n${state.vote}` : "–", state.commit, state.applied, state.last, state.durable, state.snapshot || "–"]
      : ["", "", "", "", "", "", ""];
    numbers.forEach((number, at) => show(cells[at + 2], String(number)));
    const wrong = [];
    if (state && state.flags & PAUSED) wrong.push("stands still");
    if (state && state.flags & HURT) wrong.push("its disk has lost something");
    show(cells[9], wrong.join(", "));
    row.classList.toggle("acts", EVENTS.node[VIEW.event] === node);
    row.classList.toggle("guilty", FAILURE !== null && FAILURE.node === node && VIEW.event >= FAILURE.event);
  });
}

// The logs.

const LOG = { cell: 26, row: 26, left: 44, shift: 0, first: 1, count: 1, drawn: [] };
const termColor = (term) => `hsl(${(term * 67 + 200) % 360} 55% ${document.documentElement.dataset.theme === "dark" ? 32 : 80}%)`;

function drawLogs() {
  const canvas = element("logs");
  const nodes = shownNodes();
  const width = Math.max(canvas.parentElement.clientWidth, 120), height = 20 + nodes.length * LOG.row;
  canvas.style.height = `${height}px`;
  const draw = fitCanvas(canvas, width, height);
  draw.clearRect(0, 0, width, height);
  draw.font = "11px system-ui, sans-serif";
  draw.textBaseline = "middle";
  const states = nodes.map((node) => stateAt(node, VIEW.event));
  const newest = Math.max(1, ...states.map((state) => state ? state.last : 0));
  LOG.count = Math.max(1, Math.floor((width - LOG.left) / LOG.cell));
  LOG.shift = clamp(LOG.shift, 0, Math.max(0, newest - 1));
  LOG.first = Math.max(1, newest - LOG.count + 1 - LOG.shift);
  LOG.drawn = [];
  drawIndices(draw);
  nodes.forEach((node, at) => {
    draw.fillStyle = COLORS.text;
    draw.fillText(nodeName(node), 6, 20 + at * LOG.row + LOG.row / 2);
    if (states[at]) drawLog(draw, node, states[at], 20 + at * LOG.row);
  });
}

function drawIndices(draw) {
  draw.fillStyle = COLORS.quiet;
  draw.textAlign = "center";
  for (let at = 0; at < LOG.count; at++) {
    const index = LOG.first + at;
    if (index % 5 === 0 || at === 0) draw.fillText(String(index), LOG.left + at * LOG.cell + LOG.cell / 2, 8);
  }
  draw.textAlign = "left";
}

function drawLog(draw, node, state, y) {
  const end = LOG.first + LOG.count;
  const is_down = (state.flags & DOWN) !== 0;
  draw.globalAlpha = is_down ? 0.35 : 1;
  draw.textAlign = "center";
  for (const [first, count, term] of logAt(node, VIEW.event)) {
    for (let index = Math.max(first, LOG.first); index < Math.min(first + count, end); index++) {
      const x = LOG.left + (index - LOG.first) * LOG.cell;
      draw.fillStyle = termColor(term);
      draw.fillRect(x + 1, y + 2, LOG.cell - 2, LOG.row - 6);
      draw.fillStyle = COLORS.text;
      draw.fillText(String(term), x + LOG.cell / 2, y + LOG.row / 2 - 1);
      draw.strokeStyle = COLORS.text;
      if (index > state.durable) {
        draw.setLineDash([2, 2]);
        draw.strokeRect(x + 1.5, y + 2.5, LOG.cell - 3, LOG.row - 7);
        draw.setLineDash([]);
      }
      if (index <= state.commit) {
        draw.fillStyle = COLORS.good;
        draw.fillRect(x + 1, y + LOG.row - 4, LOG.cell - 2, 3);
      }
      if (FAILURE && FAILURE.index === index && VIEW.event >= FAILURE.event) {
        draw.strokeStyle = COLORS.bad;
        draw.lineWidth = 2;
        draw.strokeRect(x, y + 1, LOG.cell, LOG.row - 4);
        draw.lineWidth = 1;
      }
      LOG.drawn.push([x, y, node, index, term]);
    }
  }
  draw.textAlign = "left";
  draw.globalAlpha = 1;
}

function readEntry(pointer) {
  const box = element("logs").getBoundingClientRect();
  const [px, py] = [pointer.clientX - box.left, pointer.clientY - box.top];
  const hit = LOG.drawn.find(([x, y]) => px >= x && px < x + LOG.cell && py >= y && py < y + LOG.row);
  if (!hit) return;
  const [, , node, index, term] = hit;
  const state = stateAt(node, VIEW.event);
  const where = index <= state.commit ? "committed, as far as it knows" : "not known to be committed";
  const disk = index <= state.durable ? "on disk" : "not on disk yet";
  show(element("entry"), `${nodeName(node)}, index ${index}, term ${term}: ${entryText(index, term)} — ${where}, ${disk}`);
}

// The list of events.

const LIST = { row: 22, shown: [], texts: new Map(), rows: [] };

/** The events that pass the filters, and the search if there is one. */
function fillList() {
  const wanted = [];
  for (let event = 0; event < EVENTS.count; event++) {
    const message = EVENTS.message[event], node = EVENTS.node[event];
    if (message >= 0 ? !isShown(message) : VIEW.only_lost || (node >= 0 && !VIEW.nodes[node])) continue;
    if (!VIEW.faults && EVENTS.fault[event] && message < 0) continue;
    wanted.push(event);
  }
  LIST.shown = Int32Array.from(wanted);
  element("list-all").style.height = `${wanted.length * LIST.row}px`;
  show(element("listed"), `${wanted.length} of ${EVENTS.count}`);
  LIST.rows = [];
  element("list-rows").replaceChildren();
}

function drawList(follow) {
  const list = element("list");
  const chosen = Math.max(0, upTo(LIST.shown, VIEW.event) - 1);
  if (follow) {
    const top = chosen * LIST.row;
    if (top < list.scrollTop || top + LIST.row > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }
  const first = Math.floor(list.scrollTop / LIST.row);
  const count = Math.min(Math.ceil(list.clientHeight / LIST.row) + 1, LIST.shown.length - first);
  const rows = element("list-rows");
  rows.style.top = `${first * LIST.row}px`;
  while (LIST.rows.length < count) {
    const number = make("span", { class: "number" }), text = document.createTextNode("");
    const row = make("div", { class: "row" }, number, text);
    LIST.rows.push({ row, number, text });
    rows.append(row);
  }
  LIST.rows.forEach(({ row, number, text }, at) => {
    row.hidden = at >= count;
    if (at >= count) return;
    const event = LIST.shown[first + at];
    row.dataset.event = event;
    show(number, `#${event}`);
    show(text, eventText(event));
    row.classList.toggle("chosen", event === VIEW.event);
    row.classList.toggle("fault", EVENTS.fault[event] === 1);
  });
}

// The whole run in one line.

/** What of it does not change with the moment, and for which look of the page it was drawn. */
const OVERVIEW = { base: document.createElement("canvas"), drawn: "", height: 22 };

function drawOverview() {
  const canvas = element("overview");
  const width = Math.max(canvas.clientWidth, 50), { height } = OVERVIEW;
  const look = `${width} ${PICTURE.ratio} ${VIEW.by_time}`;
  const at = (event) => place(event) / lastPlace() * width;
  if (OVERVIEW.drawn !== look) {
    OVERVIEW.drawn = look;
    drawOverviewBase(fitCanvas(OVERVIEW.base, width, height), width, at);
  }
  const draw = fitCanvas(canvas, width, height);
  draw.drawImage(OVERVIEW.base, 0, 0, width, height);
  draw.fillStyle = COLORS.window;
  draw.fillRect(VIEW.low / lastPlace() * width, 0, Math.max((VIEW.high - VIEW.low) / lastPlace() * width, 2), height);
  draw.fillStyle = COLORS.cursor;
  draw.fillRect(at(VIEW.event) - 1, 0, 2, height);
}

/** Elections above, faults below, and what was searched for between them. */
function drawOverviewBase(draw, width, at) {
  draw.fillStyle = COLORS.panel;
  draw.fillRect(0, 0, width, OVERVIEW.height);
  draw.fillStyle = COLORS.bad;
  draw.globalAlpha = 0.5;
  for (const event of MOMENTS.faults) draw.fillRect(at(event), 15, 1, 7);
  draw.globalAlpha = 1;
  draw.fillStyle = COLORS.leader;
  for (const event of MOMENTS.elections) draw.fillRect(at(event), 0, 2, 9);
  draw.fillStyle = COLORS.link;
  for (const event of SEARCH.found) draw.fillRect(at(event), 9, 1, 6);
  if (!FAILURE) return;
  draw.fillStyle = COLORS.bad;
  draw.fillRect(Math.min(at(FAILURE.event), width - 3), 0, 3, OVERVIEW.height);
}

// What is true of the whole run.

function buildSummary() {
  const { report } = DATA;
  show(element("source"), report.source);
  show(element("verdict"), report.verdict);
  element("verdict").classList.toggle("bad", FAILURE !== null);
  element("options-text").textContent =
    [...DATA.options, "", `digest     ${report.digest}`, `repeat     ${report.reproduce}`].join("\n");
  if (FAILURE) {
    element("failure").hidden = false;
    show(element("failure-id"), FAILURE.id);
    show(element("failure-meaning"), `Promised: ${FAILURE.meaning}.`);
    show(element("failure-predicted"), FAILURE.predicted ?? "nothing of the kind");
    show(element("failure-actual"), FAILURE.actual);
    const where = [`event #${FAILURE.event}`];
    if (FAILURE.node !== undefined) where.push(`at ${nodeName(FAILURE.node)}`);
    if (FAILURE.index !== undefined) where.push(`entry ${FAILURE.index}`);
    show(element("failure-where"), where.join(", "));
  }
}

function buildLegend() {
  const legend = element("legend");
  const add = (name, ...inside) => legend.append(make("span", {}, ...inside, name));
  ROLES.forEach((role, at) => add(ROLE_NAMES[at], swatch(role)));
  GROUPS.forEach(([name]) => { if (hasGroup(name)) add(name, swatch(name, "stroke")); });
  for (const text of ["✕ crash, or a message that is lost", "▲ fault at a node", "▬ at the top: a partition",
    "★ t5: elected in term 5", "✓7: committed through 7", "dotted: down", "hatched: stands still",
    "logs: green foot committed, dashed not on disk yet"]) add(text);
  if (CLIENTS > 0) {
    add("a client's request, answered", swatch("follower"));
    add("one that failed, or was given up", swatch("candidate"));
  }
}

const hasGroup = (name) => GROUP.includes(GROUPS.findIndex(([group]) => group === name));
