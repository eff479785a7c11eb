// Uses the pages as a person would: node check.mjs BROWSER DIRECTORY PASSING BROKEN SNAPSHOTS
// Screenshots go to DIRECTORY. Ends with 1 if anything is not as it should be.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { Browser } from "./browser.mjs";

const [program, directory, passing, broken, snapshots] = process.argv.slice(2);
const browser = await Browser.start(program);

const open = (page, hash = "") => browser.open(pathToFileURL(page).href + hash);
const moment = async () => Number(/^#(\d+) /.exec(await browser.text("moment"))[1]);
const keep = async (name) => writeFileSync(join(directory, `${name}.png`), await browser.screenshot());

/** How many colours a part of a canvas shows: an empty one shows one. */
const colours = (id) => browser.value(`(() => {
  const canvas = document.getElementById(${JSON.stringify(id)});
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set(new Uint32Array(data.buffer));
  return seen.size;
})()`);

const TESTS = {
  async "a healthy run shows its cluster"() {
    await browser.look(1400, 1150);
    await open(passing);
    assert.match(await browser.text("source"), /^seed 0x1$/);
    assert.match(await browser.text("verdict"), /^passed/);
    assert.equal(await browser.value("document.getElementById('failure').hidden"), true);
    assert.equal(await browser.value("document.querySelectorAll('#nodes tr').length"), 1 + await browser.value("NODES.length"));
    assert.match(await browser.text("nodes"), /leader/, "it opens at an election");
    assert(await colours("picture") > 20, "the picture is not empty");
    assert(await colours("logs") > 3, "the logs are not empty");
    await keep("page-light");
  },

  async "the slider shows each node at that moment"() {
    const before = await browser.text("nodes");
    await browser.value("(() => { const slider = document.getElementById('slider'); slider.value = 15000; slider.dispatchEvent(new Event('input')); })()");
    await browser.drawn();
    assert.equal(await moment(), 15000);
    assert.notEqual(await browser.text("nodes"), before);
    // What the table says is what the data says, found by another way: from the beginning.
    const [shown, counted] = await browser.value(`(() => {
      const rows = [...document.querySelectorAll("#nodes tr")].slice(1);
      const shown = rows.map((row) => [2, 4, 6].map((at) => row.cells[at].textContent).join());
      const counted = NODES.map((_, node) => {
        let last = "";
        DATA.states.node.forEach((of, row) => {
          const event = DATA.states.event.slice(0, row + 1);
          if (of === node) last = row;
        });
        let sum = 0, at = -1;
        DATA.states.node.forEach((of, row) => { sum += DATA.states.event[row]; if (of === node && sum <= 15000) at = row; });
        return ["term", "commit", "last"].map((name) => DATA.states.facts[name][at]).join();
      });
      return [shown, counted];
    })()`);
    assert.deepEqual(shown, counted);
  },

  async "a log is as long as its node says, at any moment"() {
    const wrong = () => browser.value(`(() => {
      const wrong = [];
      for (let event = 0; event < EVENTS.count; event += 41) {
        NODES.forEach((_, node) => {
          const state = stateAt(node, event);
          if (!state || state.flags & DOWN) return;
          const runs = logAt(node, event), end = runs.at(-1);
          const last = end ? end[0] + end[1] - 1 : state.base;
          if (Math.max(last, state.base) !== state.last) wrong.push([event, node, last, state.last]);
          runs.forEach(([first], at) => { if (at > 0 && runs[at - 1][0] + runs[at - 1][1] !== first) wrong.push([event, node, "gap"]); });
        });
      }
      return wrong;
    })()`);
    assert.deepEqual(await wrong(), []);
    await open(snapshots);
    assert(await browser.value("MOMENTS.snapshots.length") > 10, "some logs have given way to snapshots");
    assert.deepEqual(await wrong(), []);
  },

  async "keys move through time"() {
    await open(passing, "#e=100");
    assert.equal(await moment(), 100);
    await browser.key("ArrowRight");
    assert.equal(await moment(), 101);
    await browser.key("PageDown");
    assert.equal(await moment(), 201);
    await browser.key("]");
    assert((await browser.value("MOMENTS.elections")).includes(await moment()), "] leads to an election");
    await browser.key("End");
    assert.equal(await moment(), await browser.value("EVENTS.count - 1"));
    await browser.key("Home");
    assert.equal(await moment(), 0);
    await browser.key("?");
    assert.equal(await browser.value("document.getElementById('help').open"), true);
    await browser.value("document.getElementById('help').close()");
  },

  async "a click into the picture chooses what is there"() {
    await open(passing, "#e=1000");
    await browser.value("window.scrollTo(0, 0)");
    const [x, y, event] = await browser.value(`(() => {
      const box = overlay.getBoundingClientRect();
      const event = eventAt(box.width * 0.3);
      return [box.left + toX(event), box.top + LANES[0], event];
    })()`);
    await browser.press(x, y);
    const chosen = await moment();
    assert(Math.abs(chosen - event) <= 30 && chosen !== 1000, `${chosen} is near ${event}`);
    assert.equal(await browser.value("document.getElementById('tip').hidden"), false, "what is there is told");
  },

  async "a counter leads to its moments, one after the other"() {
    await browser.key("Home");
    const first = await browser.value("(document.querySelector('#counters button').click(), 0)");
    assert.equal(first, 0);
    await browser.drawn();
    const elections = await browser.value("MOMENTS.elections");
    assert.equal(await moment(), elections.find((event) => event > 0));
  },

  async "search finds events and goes through them"() {
    await browser.value("(() => { const box = document.getElementById('search'); box.value = 'requestvote'; box.dispatchEvent(new Event('input')); })()");
    await browser.drawn();
    const found = Number(/^(\d+) found$/.exec(await browser.text("found"))[1]);
    assert(found > 10, `${found} votes are asked for`);
    await browser.click("search-on");
    assert.match(await browser.text("now"), /RequestVote/);
    const one = await moment();
    await browser.click("search-on");
    assert.notEqual(await moment(), one);
  },

  async "filters take away what is not wanted"() {
    await open(passing, "#e=3000");
    const before = Number(/^(\d+) of/.exec(await browser.text("listed"))[1]);
    await browser.value("document.querySelector('[data-filter=heartbeats]').click()");
    await browser.value("document.querySelector('[data-filter=n1]').click()");
    await browser.drawn();
    const after = Number(/^(\d+) of/.exec(await browser.text("listed"))[1]);
    assert(after < before, `${after} events are fewer than ${before}`);
    assert.equal(await browser.value("LANES[0]"), -1);
  },

  async "a failing run shows what is broken, when and where"() {
    await open(broken);
    assert.equal(await browser.value("document.getElementById('failure').hidden"), false);
    assert.equal(await browser.text("failure-id"), "ES");
    assert.match(await browser.text("failure-meaning"), /at most one leader/);
    assert.equal(await moment(), await browser.value("FAILURE.event"), "it opens at the failure");
    await browser.key("Home");
    await browser.click("failure-go");
    assert.equal(await moment(), await browser.value("FAILURE.event"));
    await browser.value("window.scrollTo(0, 0)");
    await keep("page-broken");
  },

  async "dark follows the system, and the switch"() {
    await browser.look(1400, 1150, "dark");
    await open(broken);
    const back = () => browser.value("getComputedStyle(document.body).backgroundColor");
    const dark = await back();
    await keep("page-dark");
    await browser.click("theme");
    assert.notEqual(await back(), dark);
  },

  async "a narrow window is used to its width, and no more"() {
    await browser.look(390, 844, "light", true);
    await open(passing, "#e=2000");
    assert.equal(await browser.value("document.documentElement.scrollWidth"), 390);
    await keep("page-narrow");
  },

  async "texts of a run are texts"() {
    assert.equal(await browser.value("document.scripts.length"), 2);
    const marked = await browser.value("TEXTS.filter((text) => text.includes('<')).length");
    assert(marked > 0, "some keys contain what could be markup");
  },

  async "twenty thousand events do not stutter"() {
    await browser.look(1400, 1150);
    await open(passing, "#e=0");
    const measure = (act) => browser.value(`(async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(done));
      const times = [];
      for (let at = 0; at < 120; at++) {
        await frame();
        const start = performance.now();
        (${act})(at / 119);
        await frame();
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      return { half: times[60], most: times[113], worst: times[119] };
    })()`);
    const scrub = await measure("(part) => goTo(part * (EVENTS.count - 1))");
    await browser.key("0");
    const scrubAll = await measure("(part) => goTo(part * (EVENTS.count - 1))");
    const zoomed = await measure("(part) => setView(part * 5000, 20000 - part * 14000)");
    const told = ({ half, most, worst }) => `${half.toFixed(1)} / ${most.toFixed(1)} / ${worst.toFixed(1)} ms`;
    console.log(`     frames, half / 95 of 100 / all within: slider ${told(scrub)}, slider with the whole run in view ${told(scrubAll)}, zoom ${told(zoomed)}`);
    // Three screens' frames: half of them are there sooner even on a busy machine.
    for (const { half } of [scrub, scrubAll, zoomed]) assert(half < 50, `one in two frames takes more than ${half} ms`);
    await browser.key("0");
    await keep("page-all");
  },

  async "the page asks nobody for anything, and nothing goes wrong in it"() {
    assert.deepEqual(browser.errors, []);
    const others = browser.requests.filter((url) => !url.startsWith("file:") && !url.startsWith("data:"));
    assert.deepEqual(others, []);
  },
};

let failed = 0;
try {
  for (const [name, test] of Object.entries(TESTS)) {
    try {
      await test();
      console.log(`  ok ${name}`);
    } catch (error) {
      failed++;
      console.log(`  FAILED ${name}: ${error.message}`);
    }
  }
} finally {
  await browser.stop();
}
process.exitCode = failed === 0 ? 0 : 1;
