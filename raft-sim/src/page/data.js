"use strict";
// The run, unpacked: columns of numbers in typed arrays, and what can be asked of them. Nothing here
// touches the page.

const DATA = JSON.parse(document.getElementById("data").textContent);

/** Differences back to numbers. */
function rising(differences) {
  const numbers = new Float64Array(differences.length);
  let sum = 0;
  differences.forEach((difference, at) => { sum += difference; numbers[at] = sum; });
  return numbers;
}

const ints = (numbers) => Int32Array.from(numbers);
const TEXTS = DATA.texts;
const NODES = DATA.nodes;

const EVENTS = {
  count: DATA.events.time.length,
  time: rising(DATA.events.time),
  kind: ints(DATA.events.kind),
  node: ints(DATA.events.node),
  text: ints(DATA.events.text),
  message: ints(DATA.events.message),
  fault: ints(DATA.events.fault),
};

const DELIVERED = -2;
const MESSAGES = {
  count: DATA.messages.kind.length,
  kind: ints(DATA.messages.kind),
  from: ints(DATA.messages.from),
  to: ints(DATA.messages.to),
  term: ints(DATA.messages.term),
  text: ints(DATA.messages.text),
  sent: ints(DATA.messages.sent),
  /** The event at which it arrives or is lost; -1 if it is in flight when the run ends. */
  end: ints(DATA.messages.end.map((after, at) => after < 0 ? -1 : DATA.messages.sent[at] + after)),
  fate: ints(DATA.messages.fate),
  copy: ints(DATA.messages.copy),
};

/** Groups of kinds of messages: what is filtered and coloured together. */
const GROUPS = [
  ["votes", /Vote|TimeoutNow/], ["appends", /^(AppendEntries|Commit|Append)/], ["heartbeats", /^Heartbeat/],
  ["snapshots", /^(InstallSnapshot|Snapshot)/], ["reads", /^ReadIndex/], ["forged", /^forged/], ["repair", /./],
];
const GROUP_OF_TEXT = new Map();
function groupOf(message) {
  const kind = MESSAGES.kind[message];
  if (!GROUP_OF_TEXT.has(kind)) {
    GROUP_OF_TEXT.set(kind, GROUPS.findIndex(([, names]) => names.test(TEXTS[kind])));
  }
  return GROUP_OF_TEXT.get(kind);
}
const GROUP = Uint8Array.from({ length: MESSAGES.count }, (_, message) => groupOf(message));

/** The latest end in each block of messages, so that those that are over can be skipped. */
const BLOCK = 128;
const LATEST = new Int32Array(Math.ceil(MESSAGES.count / BLOCK));
for (let at = 0; at < MESSAGES.count; at++) {
  const end = MESSAGES.end[at] < 0 ? EVENTS.count : MESSAGES.end[at];
  const block = Math.floor(at / BLOCK);
  LATEST[block] = Math.max(LATEST[block], end);
}

/** How many numbers of a column, which rises, are at most `limit`. */
function upTo(column, limit) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low;
}

/** Calls `visit` with each message that is under way at some event from `first` to `last`. */
function messagesWithin(first, last, visit) {
  const count = upTo(MESSAGES.sent, last);
  for (let block = 0; block * BLOCK < count; block++) {
    if (LATEST[block] < first) continue;
    const stop = Math.min((block + 1) * BLOCK, count);
    for (let at = block * BLOCK; at < stop; at++) {
      if (MESSAGES.end[at] < 0 || MESSAGES.end[at] >= first) visit(at);
    }
  }
}

const ROLES = ["follower", "precandidate", "candidate", "leader", "halted"];
const ROLE_NAMES = ["follower", "pre-candidate", "candidate", "leader", "halted"];
const FACTS = Object.keys(DATA.states.facts);
const DOWN = 1, PAUSED = 2, HURT = 4;

/** By node: the events at which its state changes, and the facts from each of them on. */
const STATES = NODES.map(() => ({ event: [], rows: [] }));
{
  const events = rising(DATA.states.event);
  DATA.states.node.forEach((node, row) => {
    STATES[node].event.push(events[row]);
    STATES[node].rows.push(row);
  });
  for (const name of FACTS) DATA.states.facts[name] = ints(DATA.states.facts[name]);
}

/** A fact of a row of a node's states. */
const fact = (node, name, position) => DATA.states.facts[name][STATES[node].rows[position]];

/** The facts of a node after an event; nothing before it has started. */
function stateAt(node, event) {
  const position = upTo(STATES[node].event, event) - 1;
  if (position < 0) return null;
  const state = {};
  for (const name of FACTS) state[name] = fact(node, name, position);
  return state;
}

/** By node: how its log changes; and, now and then, the whole log, as runs of [first, count, term]. */
const LOGS = NODES.map(() => ({ event: [], changes: [], whole: [] }));
const WHOLE_EVERY = 32;
{
  const events = rising(DATA.logs.event);
  let at = 0;
  DATA.logs.node.forEach((node, row) => {
    const change = [];
    let index = Math.abs(DATA.logs.from[row]);
    for (let run = 0; run < DATA.logs.runs[row]; run++, at++) {
      change.push([index, DATA.logs.counts[at], DATA.logs.terms[at]]);
      index += DATA.logs.counts[at];
    }
    const log = LOGS[node];
    log.event.push(events[row]);
    log.changes.push([DATA.logs.from[row], change]);
    if (log.changes.length % WHOLE_EVERY === 0) log.whole.push(replay(log, log.changes.length));
  });
}

/** What stays of a log before an index, followed by a change. Before a negative one nothing stays. */
function changed(log, [from, change]) {
  const kept = [];
  for (const [first, count, term] of log) {
    if (first < from) kept.push([first, Math.min(count, from - first), term]);
  }
  return kept.concat(change);
}

/** A log after its first changes. */
function replay(log, count) {
  const whole = Math.min(Math.floor(count / WHOLE_EVERY), log.whole.length);
  let runs = whole > 0 ? log.whole[whole - 1] : [];
  for (let at = whole * WHOLE_EVERY; at < count; at++) runs = changed(runs, log.changes[at]);
  return runs;
}

const logAt = (node, event) => replay(LOGS[node], upTo(LOGS[node].event, event));

/** What an entry says, by its index and term. */
const ENTRIES = new Map(DATA.entries.map(([index, term, text]) => [`${index}/${term}`, TEXTS[text]]));
const entryText = (index, term) => ENTRIES.get(`${index}/${term}`) ?? "an entry of an earlier snapshot";

const nodeName = (node) => NODES[node].name;

function fateOf(message) {
  const fate = MESSAGES.fate[message];
  if (fate === DELIVERED) return "delivered";
  return fate < 0 ? "still on its way when the run ends" : TEXTS[fate];
}

/** A message in words. */
function messageText(message) {
  const { kind, from, to, term, text, copy } = MESSAGES;
  const ends = `${nodeName(from[message])} → ${nodeName(to[message])}`;
  const second = copy[message] ? " (a second copy)" : "";
  const of_term = term[message] < 0 ? "" : ` t${term[message]}`;
  return `${ends}${of_term} ${TEXTS[kind[message]]} ${TEXTS[text[message]]}${second}`;
}

/** An event in words. */
function eventText(event) {
  const parts = [];
  const message = EVENTS.message[event];
  if (message >= 0) {
    const is_lost = MESSAGES.fate[message] >= 0;
    parts.push(messageText(message) + (is_lost ? ` — ${fateOf(message)}` : ""));
  }
  const said = TEXTS[EVENTS.text[event]];
  if (said) {
    const node = EVENTS.node[event];
    parts.push(message < 0 && node >= 0 ? `${nodeName(node)}: ${said}` : said);
  }
  return parts.join("; ") || TEXTS[EVENTS.kind[event]];
}

/** A moment of the simulation. */
function timeText(event) {
  const ms = EVENTS.time[event] / 1000;
  return ms < 1000 ? `${ms.toFixed(3)} ms` : `${(ms / 1000).toFixed(4)} s`;
}

/** The moments that the summary leads to. */
const MOMENTS = { elections: [], crashes: [], starts: [], snapshots: [], damage: [] };
NODES.forEach((_, node) => {
  const { event } = STATES[node];
  for (let at = 0; at < event.length; at++) {
    const was = (name) => at > 0 ? fact(node, name, at - 1) : 0;
    const is = (name) => fact(node, name, at);
    const down = (flags) => flags & DOWN;
    if (is("role") === 3 && !down(is("flags")) && (was("role") !== 3 || was("term") !== is("term"))) MOMENTS.elections.push(event[at]);
    if (down(is("flags")) && !down(was("flags"))) MOMENTS.crashes.push(event[at]);
    if (!down(is("flags")) && (at === 0 || down(was("flags")))) MOMENTS.starts.push(event[at]);
    if (is("snapshot") > was("snapshot")) MOMENTS.snapshots.push(event[at]);
    if ((is("flags") & HURT) && !(was("flags") & HURT)) MOMENTS.damage.push(event[at]);
  }
});
for (const name of Object.keys(MOMENTS)) MOMENTS[name] = [...new Set(MOMENTS[name])].sort((a, b) => a - b);
MOMENTS.faults = [];
EVENTS.fault.forEach((fault, event) => { if (fault) MOMENTS.faults.push(event); });

const FAILURE = DATA.failure ?? null;
