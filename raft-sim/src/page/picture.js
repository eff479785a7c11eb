// The picture: lanes, roles, messages. What does not depend on the chosen moment is drawn on one canvas,
// the moment on another above it, so that moving through time draws little.

/** What is shown: the moment, the part of the run that is in view, and what is filtered out. */
const VIEW = {
  event: 0, low: 0, high: 1, by_time: false,
  groups: GROUPS.map(() => true), nodes: NODES.map(() => true), only_lost: false, faults: true,
};

const PICTURE = { width: 0, height: 0, left: 44, top: 26, lane: 56, bar: 12, clients: 0, ratio: 1, skipped: 1 };
const CLIENT_ROW = 7;
const CLIENTS = DATA.requests.client.reduce((most, client) => Math.max(most, client + 1), 0);
const REQUESTS = {
  begin: rising(DATA.requests.begin), end: DATA.requests.end, text: DATA.requests.text,
  client: DATA.requests.client, outcome: DATA.requests.outcome,
};
/** More arrows than this make no picture. */
const ARROWS_MAX = 2000;
/** More marks of faults on the lanes than this say nothing; those along the top stay. */
const FAULTS_MAX = 400;

const picture = document.getElementById("picture");
const overlay = document.getElementById("overlay");
const COLORS = {};

/** The colours of the page, as they are now. */
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [...ROLES, ...GROUPS.map(([name]) => name), "back", "panel", "text", "quiet", "line",
    "bad", "good", "cursor", "window", "link"]) {
    COLORS[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

const shownNodes = () => NODES.map((_, node) => node).filter((node) => VIEW.nodes[node]);
const place = (event) => VIEW.by_time ? EVENTS.time[event] : event;
const lastPlace = () => Math.max(place(EVENTS.count - 1), 1);
const toX = (event) =>
  PICTURE.left + (place(event) - VIEW.low) / (VIEW.high - VIEW.low) * (PICTURE.width - PICTURE.left);

/** The event at, or nearest to, a place in the picture. */
function eventAt(x) {
  const at = VIEW.low + (x - PICTURE.left) / (PICTURE.width - PICTURE.left) * (VIEW.high - VIEW.low);
  if (!VIEW.by_time) return clamp(Math.round(at), 0, EVENTS.count - 1);
  const after = upTo(EVENTS.time, at);
  const is_before = after > 0 && (after >= EVENTS.count || at - EVENTS.time[after - 1] < EVENTS.time[after] - at);
  return clamp(is_before ? after - 1 : after, 0, EVENTS.count - 1);
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The first and the last event in view. */
function eventsInView() {
  if (!VIEW.by_time) return [Math.max(0, Math.floor(VIEW.low)), Math.min(EVENTS.count - 1, Math.ceil(VIEW.high))];
  return [Math.max(0, upTo(EVENTS.time, VIEW.low) - 1), Math.min(EVENTS.count - 1, upTo(EVENTS.time, VIEW.high))];
}

/** By node: the middle of its lane; -1 if it is not shown. */
let LANES = [];

function layOut() {
  const box = document.getElementById("stage");
  const nodes = shownNodes();
  const { left, top } = PICTURE;
  PICTURE.lane = clamp(Math.floor(420 / Math.max(nodes.length, 1)), 40, 76);
  PICTURE.clients = top + nodes.length * PICTURE.lane + 8;
  PICTURE.height = PICTURE.clients + CLIENTS * CLIENT_ROW + 18;
  box.style.height = `${PICTURE.height}px`;
  PICTURE.width = Math.max(box.clientWidth, left + 50);
  PICTURE.ratio = window.devicePixelRatio || 1;
  LANES = NODES.map((_, node) => {
    const at = nodes.indexOf(node);
    return at < 0 ? -1 : top + at * PICTURE.lane + PICTURE.lane / 2;
  });
  for (const canvas of [picture, overlay]) fitCanvas(canvas, PICTURE.width, PICTURE.height);
}

/** A canvas of this size, in sharp pixels. Returns what draws on it. */
function fitCanvas(canvas, width, height) {
  const ratio = PICTURE.ratio;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  return draw;
}

function drawPicture() {
  const draw = fitCanvas(picture, PICTURE.width, PICTURE.height);
  draw.fillStyle = COLORS.back;
  draw.fillRect(0, 0, PICTURE.width, PICTURE.height);
  draw.font = "11px system-ui, sans-serif";
  draw.textBaseline = "middle";
  drawRuler(draw);
  draw.save();
  draw.beginPath();
  draw.rect(PICTURE.left, 0, PICTURE.width - PICTURE.left, PICTURE.height);
  draw.clip();
  drawPartitions(draw);
  shownNodes().forEach((node) => drawLane(draw, node));
  drawMessages(draw);
  if (VIEW.faults) drawFaults(draw);
  drawRequests(draw);
  drawEdges(draw);
  draw.restore();
  drawNames(draw);
}

/** Moments along the top. */
function drawRuler(draw) {
  const { left, width } = PICTURE;
  const step = niceStep((VIEW.high - VIEW.low) / Math.max((width - left) / 110, 1));
  draw.strokeStyle = COLORS.line;
  draw.fillStyle = COLORS.quiet;
  draw.lineWidth = 1;
  for (let at = Math.ceil(VIEW.low / step) * step; at <= VIEW.high; at += step) {
    const x = Math.round(left + (at - VIEW.low) / (VIEW.high - VIEW.low) * (width - left)) + 0.5;
    line(draw, x, 0, x, PICTURE.height);
    const label = VIEW.by_time ? `${Number((at / 1000).toPrecision(9))} ms` : `#${at}`;
    if (x + 40 < width) draw.fillText(label, x + 3, 8);
  }
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= least) * power;
  return Math.max(1, step);
}

function line(draw, x1, y1, x2, y2) {
  draw.beginPath();
  draw.moveTo(x1, y1);
  draw.lineTo(x2, y2);
  draw.stroke();
}

function drawNames(draw) {
  draw.fillStyle = COLORS.back;
  draw.fillRect(0, 0, PICTURE.left, PICTURE.height);
  for (const node of shownNodes()) {
    draw.fillStyle = COLORS.text;
    draw.font = "bold 13px system-ui, sans-serif";
    draw.fillText(nodeName(node), 6, LANES[node] - 5);
    draw.font = "10px system-ui, sans-serif";
    draw.fillStyle = COLORS.quiet;
    draw.fillText(NODES[node].role, 6, LANES[node] + 9);
  }
  draw.font = "10px system-ui, sans-serif";
  draw.fillStyle = COLORS.quiet;
  if (CLIENTS > 0) draw.fillText("clients", 6, PICTURE.clients + CLIENTS * CLIENT_ROW / 2);
}

/** A node's roles, terms, elections, crashes and commits. */
function drawLane(draw, node) {
  const { event } = STATES[node];
  const [low, high] = eventsInView();
  const y = LANES[node], bar = PICTURE.bar;
  draw.strokeStyle = COLORS.line;
  draw.setLineDash([2, 4]);
  line(draw, PICTURE.left, y, PICTURE.width, y);
  draw.setLineDash([]);
  let labelled = -Infinity, committed = -Infinity, crashed = -Infinity;
  const start = Math.max(0, upTo(event, low) - 1);
  for (let at = start; at < event.length && event[at] <= high; at++) {
    const x = Math.max(toX(event[at]), PICTURE.left - 2);
    const flags = fact(node, "flags", at), role = fact(node, "role", at), term = fact(node, "term", at);
    const is_new = (name) => at === 0 || fact(node, name, at) !== fact(node, name, at - 1);
    const is_turn = at === start || is_new("role") || is_new("flags");
    if (is_turn && !(flags & DOWN)) {
      const until = Math.min(toX(sameUntil(node, at)), PICTURE.width + 2);
      draw.fillStyle = COLORS[ROLES[role]];
      draw.fillRect(x, y - bar / 2, Math.max(until - x, 0.6), bar);
      if (flags & PAUSED) hatch(draw, x, y, until);
      if (flags & HURT) {
        draw.fillStyle = COLORS.bad;
        draw.fillRect(x, y + bar / 2, Math.max(until - x, 0.6), 2);
      }
    } else if (is_new("flags") && VIEW.faults && x - crashed > 9) {
      crashed = x;
      cross(draw, x, y, 5);
    }
    const may_label = (is_new("term") || is_new("role") || at === start) && !(flags & DOWN);
    if (may_label && Math.max(x, PICTURE.left) - labelled > 34) {
      labelled = Math.max(x, PICTURE.left);
      draw.fillStyle = COLORS.text;
      draw.fillText(`${role === 3 ? "★ " : ""}t${term}`, labelled + 2, y - bar / 2 - 7);
    }
    if (is_new("commit") && !(flags & DOWN) && at > start && x - committed > 46) {
      committed = x;
      draw.fillStyle = COLORS.good;
      draw.fillText(`✓${fact(node, "commit", at)}`, x + 1, y + bar / 2 + 9);
    }
  }
}

/** The event at which a node's role or flags change next. */
function sameUntil(node, position) {
  const { event } = STATES[node];
  const [role, flags] = [fact(node, "role", position), fact(node, "flags", position)];
  let at = position + 1;
  while (at < event.length && fact(node, "role", at) === role && fact(node, "flags", at) === flags) at++;
  return at < event.length ? event[at] : EVENTS.count - 1;
}

/** A node that stands still. */
function hatch(draw, x, y, until) {
  draw.strokeStyle = COLORS.back;
  draw.lineWidth = 2;
  for (let at = Math.max(x, PICTURE.left); at < Math.min(until, PICTURE.width); at += 6) {
    line(draw, at, y + PICTURE.bar / 2, at + 4, y - PICTURE.bar / 2);
  }
  draw.lineWidth = 1;
}

function cross(draw, x, y, size) {
  draw.strokeStyle = COLORS.bad;
  draw.lineWidth = 2;
  line(draw, x - size, y - size, x + size, y + size);
  line(draw, x - size, y + size, x + size, y - size);
  draw.lineWidth = 1;
}

const isLost = (message) => MESSAGES.fate[message] >= 0;

function isShown(message) {
  return VIEW.groups[GROUP[message]] && LANES[MESSAGES.from[message]] >= 0 &&
    LANES[MESSAGES.to[message]] >= 0 && (!VIEW.only_lost || isLost(message));
}

/** Where the arrow of a message begins and ends. One that is lost goes most of the way. */
function arrow(message) {
  const x1 = toX(MESSAGES.sent[message]), y1 = LANES[MESSAGES.from[message]];
  let y2 = LANES[MESSAGES.to[message]];
  const end = MESSAGES.end[message];
  let x2 = end < 0 ? PICTURE.width : toX(end);
  if (isLost(message)) {
    x2 = Math.max(x2, x1 + 4);
    y2 = y1 + (y2 - y1) * 0.7;
  }
  const side = Math.sign(y2 - y1) * PICTURE.bar / 2;
  return [x1, y1 + side, x2, y2 - (isLost(message) ? 0 : side)];
}

function drawMessages(draw) {
  const [low, high] = eventsInView();
  const all = [];
  messagesWithin(low, high, (message) => { if (isShown(message)) all.push(message); });
  PICTURE.skipped = Math.max(1, Math.ceil(all.length / ARROWS_MAX));
  const drawn = PICTURE.skipped > 1 ? all.filter((message) => message % PICTURE.skipped === 0) : all;
  const has_heads = drawn.length < 600;
  draw.globalAlpha = drawn.length > 1200 ? 0.45 : 0.9;
  GROUPS.forEach(([name], group) => {
    draw.strokeStyle = draw.fillStyle = COLORS[name];
    draw.beginPath();
    for (const message of drawn) {
      if (GROUP[message] !== group) continue;
      const [x1, y1, x2, y2] = arrow(message);
      draw.moveTo(x1, y1);
      draw.lineTo(x2, y2);
    }
    draw.stroke();
    if (has_heads) for (const message of drawn) if (GROUP[message] === group && !isLost(message)) head(draw, ...arrow(message));
  });
  draw.globalAlpha = 1;
  if (!VIEW.faults && !VIEW.only_lost) return;
  draw.beginPath();
  draw.strokeStyle = COLORS.bad;
  for (const message of drawn) {
    if (!isLost(message)) continue;
    const [, , x, y] = arrow(message);
    draw.moveTo(x - 3, y - 3);
    draw.lineTo(x + 3, y + 3);
    draw.moveTo(x - 3, y + 3);
    draw.lineTo(x + 3, y - 3);
  }
  draw.stroke();
}

function head(draw, x1, y1, x2, y2) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [dx, dy] = [(x2 - x1) / length * 6, (y2 - y1) / length * 6];
  draw.beginPath();
  draw.moveTo(x2, y2);
  draw.lineTo(x2 - dx - dy * 0.45, y2 - dy + dx * 0.45);
  draw.lineTo(x2 - dx + dy * 0.45, y2 - dy - dx * 0.45);
  draw.fill();
}

/** Partitions are bars along the top: nothing passes some links while one lasts. */
function drawPartitions(draw) {
  if (!VIEW.faults) return;
  const { kind, begin, end } = DATA.spans;
  draw.fillStyle = COLORS.bad;
  kind.forEach((node, at) => {
    if (node >= 0) return;
    const x = toX(begin[at]), until = toX(end[at] < 0 ? EVENTS.count - 1 : end[at]);
    if (until >= PICTURE.left && x <= PICTURE.width) draw.fillRect(x, 16, Math.max(until - x, 1), 4);
  });
}

/** Faults that are not messages: a mark on the lane of the node. */
function drawFaults(draw) {
  const [low, high] = eventsInView();
  let before = -Infinity;
  const marked = NODES.map(() => -Infinity);
  const is_crowded = upTo(MOMENTS.faults, high) - upTo(MOMENTS.faults, low) > FAULTS_MAX;
  draw.fillStyle = COLORS.bad;
  for (let at = upTo(MOMENTS.faults, low - 1); at < MOMENTS.faults.length && MOMENTS.faults[at] <= high; at++) {
    const event = MOMENTS.faults[at], x = toX(event), node = EVENTS.node[event];
    if (x - before > 1) draw.fillRect(x - 0.5, 21, 1, 5);
    before = x;
    if (node < 0 || LANES[node] < 0 || EVENTS.message[event] >= 0 || is_crowded || x - marked[node] < 12) continue;
    marked[node] = x;
    draw.beginPath();
    draw.moveTo(x, LANES[node] + PICTURE.bar / 2 + 1);
    draw.lineTo(x - 4, LANES[node] + PICTURE.bar / 2 + 8);
    draw.lineTo(x + 4, LANES[node] + PICTURE.bar / 2 + 8);
    draw.fill();
  }
}

/** The requests of the clients, a thin row for each client. */
function drawRequests(draw) {
  const [low, high] = eventsInView();
  const first = Math.max(0, upTo(REQUESTS.begin, low) - 4 * CLIENTS);
  for (let at = first; at < REQUESTS.begin.length && REQUESTS.begin[at] <= high; at++) {
    const end = REQUESTS.end[at];
    const x = toX(REQUESTS.begin[at]), until = end < 0 ? PICTURE.width : toX(end);
    const told = end < 0 ? "" : TEXTS[REQUESTS.outcome[at]];
    draw.fillStyle = /^(gives up|failed|its session)/.test(told) ? COLORS.candidate : end < 0 ? COLORS.line : COLORS.follower;
    draw.fillRect(x, PICTURE.clients + REQUESTS.client[at] * CLIENT_ROW, Math.max(until - x - 1, 1), CLIENT_ROW - 2);
  }
}

/** Where the faults end, and where the run fails. */
function drawEdges(draw) {
  if (PICTURE.skipped > 1) {
    const note = `one message in ${PICTURE.skipped} is drawn: zoom in for all`;
    const width = draw.measureText(note).width;
    draw.fillStyle = COLORS.back;
    draw.fillRect(PICTURE.left, PICTURE.height - 14, width + 10, 14);
    draw.fillStyle = COLORS.quiet;
    draw.fillText(note, PICTURE.left + 5, PICTURE.height - 6);
  }
  if (DATA.healed >= 0) {
    const x = toX(DATA.healed);
    draw.strokeStyle = COLORS.good;
    draw.fillStyle = COLORS.good;
    draw.setLineDash([6, 4]);
    line(draw, x, 12, x, PICTURE.height);
    draw.setLineDash([]);
    const is_right = x + 90 > PICTURE.width;
    draw.textAlign = is_right ? "right" : "left";
    draw.fillText("the faults end", x + (is_right ? -4 : 4), PICTURE.height - 6);
    draw.textAlign = "left";
  }
  if (FAILURE) {
    const x = toX(FAILURE.event);
    draw.fillStyle = COLORS.bad;
    draw.globalAlpha = 0.18;
    draw.fillRect(x - 7, 0, 14, PICTURE.height);
    draw.globalAlpha = 1;
    draw.fillRect(x - 1, 0, 2, PICTURE.height);
    const label = `${FAILURE.id} violated`;
    const is_right = x + 90 > PICTURE.width;
    draw.textAlign = is_right ? "right" : "left";
    draw.fillText(label, x + (is_right ? -6 : 6), PICTURE.height - 6);
    draw.textAlign = "left";
    if (FAILURE.node !== undefined && LANES[FAILURE.node] >= 0) {
      draw.strokeStyle = COLORS.bad;
      draw.lineWidth = 3;
      draw.beginPath();
      draw.arc(x, LANES[FAILURE.node], 12, 0, 7);
      draw.stroke();
      draw.lineWidth = 1;
    }
  }
}

/** The chosen moment: a line, the node that acts, and its message. */
function drawMoment() {
  const draw = fitCanvas(overlay, PICTURE.width, PICTURE.height);
  draw.clearRect(0, 0, PICTURE.width, PICTURE.height);
  const x = toX(VIEW.event);
  if (x < PICTURE.left) return;
  draw.strokeStyle = draw.fillStyle = COLORS.cursor;
  draw.lineWidth = 1.5;
  line(draw, x, 0, x, PICTURE.height);
  const message = EVENTS.message[VIEW.event];
  if (message >= 0 && LANES[MESSAGES.from[message]] >= 0 && LANES[MESSAGES.to[message]] >= 0) {
    const [x1, y1, x2, y2] = arrow(message);
    draw.lineWidth = 2.5;
    line(draw, Math.max(x1, PICTURE.left), x1 < PICTURE.left ? y1 + (y2 - y1) * (PICTURE.left - x1) / (x2 - x1) : y1, x2, y2);
    head(draw, x1, y1, x2, y2);
  }
  const node = EVENTS.node[VIEW.event];
  if (node >= 0 && LANES[node] >= 0) {
    draw.lineWidth = 2;
    draw.strokeRect(x - 4, LANES[node] - PICTURE.bar / 2 - 2, 8, PICTURE.bar + 4);
  }
}
