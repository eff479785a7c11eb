// What a person does, and what the page does then.

/** Draw soon, once, however much has changed. */
const DIRTY = { picture: true, moment: true, list: true, waits: false };
function redraw(what) {
  Object.assign(DIRTY, what);
  if (DIRTY.waits) return;
  DIRTY.waits = true;
  requestAnimationFrame(() => {
    DIRTY.waits = false;
    if (DIRTY.list) fillList();
    if (DIRTY.picture) drawPicture();
    if (DIRTY.picture || DIRTY.moment) {
      drawMoment();
      drawOverview();
      drawNodes();
      drawLogs();
      drawNow();
    }
    drawList(DIRTY.moment || DIRTY.list);
    Object.assign(DIRTY, { picture: false, moment: false, list: false });
  });
}

function drawNow() {
  const event = VIEW.event;
  element("slider").value = event;
  show(element("moment"), `#${event} of ${EVENTS.count - 1}, ${timeText(event)}`);
  show(element("now"), eventText(event));
  show(element("scale"), VIEW.by_time ? "by time" : "by event");
}

/** Chooses a moment, and moves the picture if it is out of view. */
function goTo(event, centre = false) {
  VIEW.event = clamp(Math.round(event), 0, EVENTS.count - 1);
  const at = place(VIEW.event), width = VIEW.high - VIEW.low;
  if (at < VIEW.low || at > VIEW.high || centre) {
    setView(at - width / 2, at + width / 2);
  }
  rememberMoment();
  redraw({ moment: true });
}

/** The address names the moment, a while after the last change. */
let remembering = 0;
function rememberMoment() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    try { history.replaceState(null, "", `#e=${VIEW.event}`); } catch { /* An address that cannot change. */ }
  }, 300);
}

function setView(low, high) {
  const last = lastPlace(), least = VIEW.by_time ? 20 : 8;
  const width = clamp(high - low, Math.min(least, last), last * 1.04);
  low = clamp(low, -last * 0.02, last * 1.02 - width);
  [VIEW.low, VIEW.high] = [low, low + width];
  redraw({ picture: true });
}

/** Zooms by a factor around a place. */
function zoom(factor, around = place(VIEW.event)) {
  setView(around - (around - VIEW.low) * factor, around + (VIEW.high - around) * factor);
}

const fitAll = () => setView(-lastPlace() * 0.01, lastPlace() * 1.01);

/** A stretch that shows single messages, around the moment. */
function zoomToMessages() {
  const around = 60, low = Math.max(0, VIEW.event - around), high = Math.min(EVENTS.count - 1, VIEW.event + around);
  setView(place(low), place(high));
}

function turnScale() {
  const [low, high] = eventsInView();
  VIEW.by_time = !VIEW.by_time;
  setView(place(low), place(high));
}

/** The moment of a list that comes next, or the one before; round the end. */
function nextOf(moments, direction) {
  if (moments.length === 0) return;
  const after = upTo(moments, VIEW.event);
  const at = direction > 0 ? after : upTo(moments, VIEW.event - 1) - 1;
  goTo(moments[(at + moments.length) % moments.length], true);
}

// Search.

const SEARCH = { found: [] };
function search(text) {
  const wanted = text.trim().toLowerCase();
  const found = [];
  if (wanted) {
    for (let event = 0; event < EVENTS.count; event++) {
      if (eventText(event).toLowerCase().includes(wanted)) found.push(event);
    }
  }
  SEARCH.found = Int32Array.from(found);
  OVERVIEW.drawn = "";
  show(element("found"), wanted ? `${found.length} found` : "");
  redraw({ moment: true });
}

// Playing.

let playing = false;
function play(on) {
  playing = on;
  show(element("play"), on ? "Stop" : "Play");
  if (!on) return;
  let before = performance.now(), rest = 0;
  const tick = (now) => {
    if (!playing) return;
    // A tenth of what is in view a second, so that zooming in slows it down.
    const [low, high] = eventsInView();
    rest += (now - before) / 1000 * Math.max(2, (high - low) / 10);
    before = now;
    const steps = Math.floor(rest);
    rest -= steps;
    if (steps > 0) goTo(VIEW.event + steps);
    if (VIEW.event >= EVENTS.count - 1) play(false); else requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

// Light and dark.

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  readColors();
  OVERVIEW.drawn = "";
  redraw({ picture: true });
}
const turnTheme = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

// Filters and counters.

function chip(name, inside, toggle) {
  const button = make("button", { "aria-pressed": "true", "data-filter": name }, ...inside, name);
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    toggle(on);
    layOut();
    redraw({ picture: true, list: true });
  });
  return button;
}

function buildFilters() {
  const filters = element("filters");
  filters.append(make("span", { class: "name" }, "Messages:"));
  GROUPS.forEach(([name], group) => {
    if (hasGroup(name)) filters.append(chip(name, [swatch(name)], (on) => { VIEW.groups[group] = on; }));
  });
  filters.append(chip("delivered", [], (on) => { VIEW.only_lost = !on; }));
  filters.append(make("span", { class: "name" }, "Nodes:"));
  NODES.forEach((node, at) => filters.append(chip(node.name, [], (on) => { VIEW.nodes[at] = on; })));
  filters.append(chip("faults", [swatch("bad")], (on) => { VIEW.faults = on; }));
}

function counter(count, name, moments) {
  const button = make("button", { title: `Go to the next (${name})` }, make("b", {}, String(count)), ` ${name}`);
  button.disabled = moments.length === 0;
  button.addEventListener("click", () => {
    if (VIEW.high - VIEW.low > 400) zoomToMessages();
    nextOf(moments, 1);
  });
  element("counters").append(button);
}

/** The events that say something of a class of faults. */
function momentsOf(fault) {
  const says = TEXTS.map((text) => text.includes(fault));
  const moments = [];
  for (let event = 0; event < EVENTS.count; event++) {
    const message = EVENTS.message[event];
    const fate = message >= 0 ? MESSAGES.fate[message] : -1;
    if (EVENTS.fault[event] && (says[EVENTS.text[event]] || (fate >= 0 && says[fate]))) moments.push(event);
  }
  return moments;
}

function buildCounters() {
  const { report } = DATA;
  counter(report.elections, "elections", MOMENTS.elections);
  counter(report.crashes, "crashes", MOMENTS.crashes);
  counter(report.starts, "starts", MOMENTS.starts);
  if (MOMENTS.snapshots.length > 0) counter(MOMENTS.snapshots.length, "new snapshots", MOMENTS.snapshots);
  if (MOMENTS.damage.length > 0) counter(MOMENTS.damage.length, "disks found damaged", MOMENTS.damage);
  for (const fault of report.faults) counter(fault.injected, fault.name, momentsOf(fault.name));
  const text = `${report.committed} entries committed, ${report.writes} writes and ${report.reads} reads answered`;
  element("counters").append(make("span", { class: "quiet" }, text));
}

// The pointer.

function describeAt(x, y) {
  let nearest = null, least = 7;
  const [low, high] = eventsInView();
  messagesWithin(low, high, (message) => {
    if (!isShown(message) || message % PICTURE.skipped !== 0) return;
    const [x1, y1, x2, y2] = arrow(message);
    const length = (x2 - x1) ** 2 + (y2 - y1) ** 2 || 1;
    const along = clamp(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length, 0, 1);
    const distance = Math.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1));
    if (distance < least) [nearest, least] = [message, distance];
  });
  if (nearest !== null) return [`${messageText(nearest)} — ${fateOf(nearest)}`, Math.max(MESSAGES.end[nearest], MESSAGES.sent[nearest])];
  const event = eventAt(x);
  const request = requestAt(event, y);
  if (request) return [request, event];
  const node = LANES.findIndex((lane) => lane >= 0 && Math.abs(lane - y) < PICTURE.bar);
  if (y < PICTURE.top) {
    const cuts = partitionsAt(event);
    if (cuts) return [cuts, event];
  }
  if (node < 0) return [`#${event}, ${timeText(event)}: ${eventText(event)}`, event];
  const state = stateAt(node, event);
  const text = !state || state.flags & DOWN ? "down"
    : `${ROLE_NAMES[state.role]} in term ${state.term}, committed ${state.commit}, last ${state.last}`;
  return [`${nodeName(node)} at #${event}: ${text}`, event];
}

function requestAt(event, y) {
  const client = Math.floor((y - PICTURE.clients) / CLIENT_ROW);
  if (client < 0 || client >= CLIENTS) return null;
  for (let at = upTo(REQUESTS.begin, event) - 1; at >= 0; at--) {
    if (REQUESTS.client[at] !== client) continue;
    if (REQUESTS.end[at] >= 0 && REQUESTS.end[at] < event) return null;
    const told = REQUESTS.end[at] < 0 ? "no answer" : TEXTS[REQUESTS.outcome[at]];
    return `client ${client}: ${TEXTS[REQUESTS.text[at]]} → ${told}`;
  }
  return null;
}

function partitionsAt(event) {
  const { kind, begin, end, text, links } = DATA.spans;
  const cuts = [];
  kind.forEach((node, at) => {
    if (node >= 0 || begin[at] > event || (end[at] >= 0 && end[at] < event)) return;
    cuts.push(`${TEXTS[text[at]]}: nothing passes ${links[at].map(([from, to]) => `${nodeName(from)}→${nodeName(to)}`).join(" ")}`);
  });
  return cuts.join("; ");
}

function listenToPicture() {
  const pointers = new Map();
  let start = null, moved = false;
  const at = (pointer) => { const box = overlay.getBoundingClientRect(); return [pointer.clientX - box.left, pointer.clientY - box.top]; };
  overlay.addEventListener("pointerdown", (pointer) => {
    overlay.setPointerCapture(pointer.pointerId);
    pointers.set(pointer.pointerId, at(pointer));
    start = { x: at(pointer)[0], low: VIEW.low, high: VIEW.high };
    moved = false;
  });
  overlay.addEventListener("pointermove", (pointer) => {
    const [x, y] = at(pointer);
    if (!pointers.has(pointer.pointerId)) return showTip(x, y);
    const others = [...pointers].filter(([id]) => id !== pointer.pointerId);
    const before = pointers.get(pointer.pointerId);
    pointers.set(pointer.pointerId, [x, y]);
    if (others.length === 1) {
      const other = others[0][1][0];
      const [was, is] = [Math.abs(before[0] - other), Math.abs(x - other)];
      moved = true;
      if (was > 8 && is > 8) zoom(was / is, placeAt((x + other) / 2));
    } else if (start && (moved || Math.abs(x - start.x) > 4)) {
      moved = true;
      const shift = (start.x - x) / (PICTURE.width - PICTURE.left) * (start.high - start.low);
      setView(start.low + shift, start.high + shift);
    }
  });
  const release = (pointer) => {
    if (pointers.delete(pointer.pointerId) && !moved && pointer.type === "pointerup") goTo(describeAt(...at(pointer))[1]);
    start = null;
  };
  overlay.addEventListener("pointerup", release);
  overlay.addEventListener("pointercancel", release);
  overlay.addEventListener("pointerleave", () => { element("tip").hidden = true; });
  overlay.addEventListener("wheel", (wheel) => {
    if (wheel.shiftKey || Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY)) {
      const shift = (wheel.deltaX || wheel.deltaY) / PICTURE.width * (VIEW.high - VIEW.low);
      setView(VIEW.low + shift, VIEW.high + shift);
    } else {
      zoom(Math.exp(clamp(wheel.deltaY, -200, 200) / 400), placeAt(at(wheel)[0]));
    }
    wheel.preventDefault();
  }, { passive: false });
}

const placeAt = (x) => VIEW.low + (x - PICTURE.left) / (PICTURE.width - PICTURE.left) * (VIEW.high - VIEW.low);

function showTip(x, y) {
  const tip = element("tip");
  tip.hidden = false;
  show(tip, describeAt(x, y)[0]);
  tip.style.left = `${clamp(x + 14, 0, Math.max(0, PICTURE.width - tip.offsetWidth - 6))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > PICTURE.height ? Math.max(0, y - tip.offsetHeight - 10) : y + 18}px`;
}

// Keys and buttons.

const KEYS = {
  ArrowLeft: (shift) => goTo(VIEW.event - (shift ? 10 : 1)),
  ArrowRight: (shift) => goTo(VIEW.event + (shift ? 10 : 1)),
  PageUp: () => goTo(VIEW.event - 100), PageDown: () => goTo(VIEW.event + 100),
  Home: () => goTo(0), End: () => goTo(EVENTS.count - 1),
  "[": () => nextOf(MOMENTS.elections, -1), "]": () => nextOf(MOMENTS.elections, 1),
  ",": () => nextOf(MOMENTS.faults, -1), ".": () => nextOf(MOMENTS.faults, 1),
  v: () => goToFailure(), " ": () => play(!playing),
  "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => fitAll(),
  t: () => turnScale(), "/": () => element("search").focus(),
  n: () => nextOf(SEARCH.found, 1), N: () => nextOf(SEARCH.found, -1),
  d: () => turnTheme(), "?": () => element("help").showModal(),
};

function goToFailure() {
  if (!FAILURE) return;
  goTo(FAILURE.event);
  zoomToMessages();
}

function listenToKeys() {
  document.addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.metaKey || key.altKey || element("help").open) return;
    const is_typing = key.target.id === "search";
    if (is_typing && key.key === "Enter") nextOf(SEARCH.found, key.shiftKey ? -1 : 1);
    if (is_typing && key.key === "Escape") key.target.blur();
    // A button that has the focus is pressed by the space bar, and the slider moves by itself.
    if (is_typing || (key.key === " " && key.target.tagName === "BUTTON")) return;
    const act = KEYS[key.key];
    if (!act) return;
    act(key.shiftKey);
    key.preventDefault();
  });
}

function listenToButtons() {
  const press = (id, act) => element(id).addEventListener("click", act);
  press("first", KEYS.Home);
  press("back", () => KEYS.ArrowLeft(false));
  press("on", () => KEYS.ArrowRight(false));
  press("end", KEYS.End);
  press("play", () => play(!playing));
  press("in", KEYS["+"]);
  press("out", KEYS["-"]);
  press("fit", fitAll);
  press("scale", turnScale);
  press("search-on", KEYS.n);
  press("search-back", KEYS.N);
  press("theme", turnTheme);
  press("help-open", KEYS["?"]);
  press("failure-go", goToFailure);
  const shiftLogs = (by) => () => { LOG.shift = Math.max(0, LOG.shift + by(LOG.count >> 1)); redraw({ moment: true }); };
  press("log-back", shiftLogs((half) => half));
  press("log-on", shiftLogs((half) => -half));
  press("log-end", shiftLogs(() => -Infinity));
  element("slider").addEventListener("input", (input) => goTo(Number(input.target.value)));
  element("search").addEventListener("input", (input) => search(input.target.value));
  element("list").addEventListener("scroll", () => redraw({}));
  element("list-rows").addEventListener("click", (click) => {
    const row = click.target.closest(".row");
    if (row) goTo(Number(row.dataset.event));
  });
  element("logs").addEventListener("pointermove", readEntry);
  element("logs").addEventListener("pointerdown", readEntry);
  const overview = element("overview");
  const jump = (pointer) => {
    if (pointer.buttons === 0) return;
    const at = (pointer.clientX - overview.getBoundingClientRect().left) / overview.clientWidth * lastPlace();
    goTo(VIEW.by_time ? upTo(EVENTS.time, at) - 1 : at);
  };
  overview.addEventListener("pointerdown", jump);
  overview.addEventListener("pointermove", jump);
}

/** The moment that the address names. */
function momentOfAddress() {
  const named = /^#e=(\d{1,9})$/.exec(location.hash);
  return named ? Number(named[1]) : null;
}

function begin() {
  setTheme(prefersDark.matches ? "dark" : "light");
  prefersDark.addEventListener("change", () => setTheme(prefersDark.matches ? "dark" : "light"));
  buildSummary();
  buildCounters();
  buildFilters();
  buildLegend();
  buildNodes();
  listenToButtons();
  listenToKeys();
  listenToPicture();
  element("slider").max = EVENTS.count - 1;
  layOut();
  fitAll();
  const named = momentOfAddress();
  const first = MOMENTS.elections[0] ?? 0;
  goTo(named ?? (FAILURE ? FAILURE.event : first));
  zoomToMessages();
  addEventListener("resize", () => { layOut(); redraw({ picture: true }); });
  addEventListener("hashchange", () => { const event = momentOfAddress(); if (event !== null) goTo(event); });
}

begin();
