// A headless Chromium, driven over its DevTools protocol through two pipes. Nothing to install but
// Node and the browser.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long one command may take before the test fails, in milliseconds. */
const PATIENCE_MS = 60_000;

export class Browser {
  #child;
  #profile;
  #session;
  #next = 1;
  #waiting = new Map();
  #listeners = [];
  /** What the page has written to its console as an error, or thrown. */
  errors = [];
  /** What the page has asked the network for. */
  requests = [];

  /** Starts the browser with an empty page. */
  static async start(program) {
    const browser = new Browser();
    browser.#profile = mkdtempSync(join(tmpdir(), "raft-sim-page-"));
    const flags = [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
      "--disable-background-networking", "--remote-debugging-pipe", `--user-data-dir=${browser.#profile}`,
    ];
    browser.#child = spawn(program, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    const [, , , to, from] = browser.#child.stdio;
    browser.#to = to;
    browser.#listen(from);
    const { targetId } = await browser.#send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.#send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId;
    await browser.send("Page.enable");
    await browser.send("Runtime.enable");
    await browser.send("Network.enable");
    return browser;
  }

  #to;

  #listen(from) {
    let rest = Buffer.alloc(0);
    from.on("data", (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.#hear(JSON.parse(rest.subarray(0, end).toString("utf8")));
        rest = rest.subarray(end + 1);
      }
    });
  }

  #hear({ id, result, error, method, params }) {
    if (id !== undefined) {
      const { resolve, reject, timer } = this.#waiting.get(id);
      this.#waiting.delete(id);
      clearTimeout(timer);
      if (error) reject(new Error(error.message)); else resolve(result);
      return;
    }
    if (method === "Runtime.exceptionThrown") this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && params.type === "error") this.errors.push(JSON.stringify(params.args));
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    this.#listeners = this.#listeners.filter((listener) => !listener(method, params));
  }

  #send(method, params = {}, session = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method} takes too long`)), PATIENCE_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#to.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
    });
  }

  /** A command of the protocol, to the page. */
  send(method, params = {}) {
    return this.#send(method, params, this.#session);
  }

  /** Opens a page anew and waits until it is drawn. */
  async open(url) {
    // Another moment of the page that is open would load nothing.
    await this.#load("about:blank");
    await this.#load(url);
    await this.drawn();
  }

  async #load(url) {
    const loaded = new Promise((resolve) => {
      this.#listeners.push((method) => method === "Page.loadEventFired" && (resolve(), true));
    });
    await this.send("Page.navigate", { url });
    await loaded;
  }

  /** The value of an expression in the page. */
  async value(expression) {
    const { result, exceptionDetails } =
      await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** What has changed is on the screen. */
  drawn() {
    return this.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))");
  }

  text(id) {
    return this.value(`document.getElementById(${JSON.stringify(id)}).textContent`);
  }

  async click(id) {
    await this.value(`document.getElementById(${JSON.stringify(id)}).scrollIntoView({ block: "center" })`);
    const box = await this.value(
      `(({ left, top, width, height }) => ({ left, top, width, height }))(document.getElementById(${JSON.stringify(id)}).getBoundingClientRect())`);
    await this.press(box.left + box.width / 2, box.top + box.height / 2);
  }

  /** A click of the mouse. */
  async press(x, y) {
    for (const type of ["mouseMoved", "mousePressed", "mouseReleased"]) {
      const button = type === "mouseMoved" ? "none" : "left";
      await this.send("Input.dispatchMouseEvent", { type, x, y, button, clickCount: 1 });
    }
    await this.drawn();
  }

  async key(key, text = key.length === 1 ? key : undefined) {
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, text });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", key });
    await this.drawn();
  }

  /** The size of the window and what the system prefers. */
  async look(width, height, theme = "light", mobile = false) {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
    await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: theme }] });
  }

  /** A picture of the window, as PNG. */
  async screenshot() {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }

  async stop() {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill();
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
