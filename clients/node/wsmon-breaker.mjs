// Circuit breakers that a wsmon shares with every program, for Node 18 and newer. Copy this file: it needs nothing.
//
//   import { connect } from "./wsmon-breaker.mjs";
//
//   const breakers = await connect({ url: "https://wsmon.example", token }); // once per program
//   const answer = await breakers.call("stripe", () => fetch("https://api.stripe.com/v1/charges", options), {
//     fallback: (refused) => null, // instead of throwing CircuitOpen
//   });
//
// A call that is let through waits for nothing. Outcomes are told once a second; what wsmon decides arrives by a
// stream. While wsmon is away this process's own calls open and close its breakers. Times are monotonic; what
// wsmon says is judged by wsmon's own clock. The token needs the scopes monitoring:read and monitoring:admin.

const ROOT = "/api/admin/circuit-breakers";
const REPORT_MS = 1000;
const FAILING_MS = 250;
const ASK_MS = 500; // a call waits so long, at most, for wsmon's word on its trial
const RENEW_MS = 3000; // a trial lasts 10 s, unless it is renewed
const REQUEST_MS = 2000;
const RESTORED_MS = 10_000; // a lower generation that is so much younger: wsmon's database was restored
const POLL_MS = 15_000; // between two readings of all states while there is no stream
const SILENCE_MS = 25_000; // wsmon sends something every 10 s
const LONGEST_WAIT_MS = 3_600_000;
const MOST_ITEMS = 1000;
const TRANSIENT = new Set([401, 403, 408, 425, 429]); // 4xx that count; others are the request's own fault
const GIVEN_BACK = 499; // a trial of which nothing is known
const DEFAULTS = {
  error_threshold: 0.5, min_volume: 20, window: 10, failure_threshold: 5,
  recovery_timeout: 30, recovery_max: 300, slow_over: null, ignore_status: [],
}; // prettier-ignore

/** The call was not made: the breaker is open. `retryIn`: seconds until the next trial may be made. */
export class CircuitOpen extends Error {
  constructor(service, retryIn) {
    super(`${service}: the circuit breaker is open, try again in ${retryIn.toFixed(1)} s`);
    this.name = "CircuitOpen";
    this.service = service;
    this.retryIn = retryIn;
  }
}

/** What a call that ended counts as: {ok: true | false | null, status, retry_after}; null counts neither way. */
function judge(thrown, value, policy) {
  if (thrown && value?.name === "AbortError") return { ok: null }; // cancelled; a TimeoutError is a failure
  const answer = value?.response ?? value;
  const status = [value?.status, value?.statusCode, answer?.status].find((one) => one >= 100 && one <= 599);
  if (status === undefined || (thrown && status < 400)) return { ok: !thrown };
  if (policy.ignore_status.includes(status) || (status >= 400 && status < 500 && !TRANSIENT.has(status))) {
    return { ok: null };
  }
  const wait = status >= 400 ? Number.parseFloat(answer?.headers?.get?.("retry-after")) : NaN;
  return { ok: status < 400, status, ...(wait >= 0 ? { retry_after: wait } : {}) };
}

/** One breaker in this process. Node runs one thing at a time, so plain fields will do. */
class Breaker {
  constructor(service) {
    this.service = service;
    this.policy = { policy: "rolling", ...DEFAULTS };
    this.word = null; // what wsmon last said: {state, generation, forced, due, dueAt, clock, heard}
    this.opened = null; // by this process: {until, openings}
    this.closedAlone = false;
    this.asking = false;
    this.askAfter = -Infinity;
    this.items = [];
    this.rejected = 0;
    this.recent = []; // [time, ok], for when wsmon is away
    this.score = 0;
  }

  get generation() {
    return this.word?.generation ?? 0;
  }

  get isOpen() {
    return !this.closedAlone && (this.opened !== null || (this.word !== null && this.word.state !== "CLOSED"));
  }

  get due() {
    if (this.opened) return this.opened.until;
    return this.word?.due ?? (this.word?.forced ? Infinity : -Infinity);
  }

  learn(item, clockText, heard) {
    const clock = Date.parse(clockText);
    const word = this.word;
    if (word && item.generation < word.generation && clock < word.clock + RESTORED_MS) return; // old news
    const same = word?.generation === item.generation;
    const partial = !("forced" in item); // an answer to outcomes says less
    const forced = partial ? Boolean(same && word.forced) : item.forced !== null;
    const dueAt = Date.parse((forced ? item.forced_until : item.next_attempt_at) ?? "");
    let due = Number.isNaN(dueAt) ? undefined : heard + (dueAt - clock);
    // Words are late by as long as they were under way: the earliest was nearest to the truth.
    if (same && Math.abs(word.dueAt - dueAt) < 5) due = Math.min(due, word.due);
    if (partial && forced) due = word.due;
    if (item.policy) this.policy = { ...this.policy, ...item.parameters, policy: item.policy };
    if (word && !same) {
      Object.assign(this, { items: [], recent: [], score: 0, askAfter: -Infinity, opened: null });
    }
    if (item.state !== "CLOSED") this.opened = null;
    this.closedAlone = false;
    const { state, generation } = item;
    this.word = { state, generation, forced, due, dueAt, clock, heard };
  }

  count(outcome, ms) {
    const now = performance.now();
    const { ok, status, retry_after } = outcome;
    const last = this.items.at(-1); // the order matters to the counting policy
    if (last?.ok === ok && last.status === status && last.retry_after === retry_after && now - last.at < FAILING_MS) {
      last.count += 1;
      last.ms += ms;
    } else {
      this.items.push({ ok, status, retry_after, at: now, count: 1, ms });
      if (this.items.length > MOST_ITEMS) this.items.shift();
    }
    this.score = ok ? Math.max(this.score - 1, 0) : this.score + 1;
    this.recent.push([now, ok]);
    const first = now - this.policy.window * 1000;
    if (this.recent[0][0] < first || this.recent.length > 10_000) {
      this.recent = this.recent.filter(([at]) => at >= first).slice(-5000);
    }
  }

  get crossed() {
    if (this.policy.policy === "counting") return this.score >= this.policy.failure_threshold;
    const first = performance.now() - this.policy.window * 1000;
    const calls = this.recent.filter(([at]) => at >= first);
    const failed = calls.filter(([, ok]) => !ok).length;
    return calls.length >= this.policy.min_volume && failed + 1e-9 >= this.policy.error_threshold * calls.length;
  }

  openHere(retryAfter = 0) {
    const openings = 1 + (this.opened?.openings ?? 0);
    const { recovery_timeout, recovery_max } = this.policy;
    const seconds = Math.min(recovery_timeout * 2 ** (openings - 1), Math.max(recovery_max, recovery_timeout));
    this.opened = { until: performance.now() + Math.max(seconds, retryAfter) * 1000, openings };
    this.closedAlone = false;
    this.score = 0;
  }

  refusal() {
    this.rejected += 1;
    const wait = Math.max(Math.max(this.due, this.askAfter) - performance.now(), 100);
    return new CircuitOpen(this.service, Math.min(wait, LONGEST_WAIT_MS) / 1000);
  }
}

export class Breakers {
  #url;
  #headers;
  #breakers = new Map();
  #words = new Map();
  #away = true; // until wsmon answers
  #stopped = new AbortController();
  #timer;
  #etag = "";
  #hasStream = false;
  #following;
  #holdUntil = -Infinity;

  constructor({ url, token }) {
    this.#url = new URL(url).href.replace(/\/$/, "") + ROOT;
    this.#headers = { authorization: `Bearer ${token}`, "user-agent": "wsmon-breaker" };
  }

  /** Follow wsmon; resolves at its first word, and without it after two seconds. */
  async start() {
    const first = new Promise((resolve) => (this.onFirstWord = resolve));
    this.#following = this.#follow();
    this.#reportLater(REPORT_MS);
    const patience = new Promise((resolve) => setTimeout(resolve, REQUEST_MS).unref());
    await Promise.race([first, patience, this.#poll()]);
    return this;
  }

  /** Call `fn` if the breaker of that service lets it through; throws CircuitOpen, or calls `fallback` with it. */
  async call(service, fn, { fallback, exclude = () => false } = {}) {
    const breaker = this.#of(service);
    let trial = null;
    if (breaker.isOpen) {
      trial = await this.#enter(breaker);
      if (trial instanceof CircuitOpen) {
        if (fallback) return fallback(trial);
        throw trial;
      }
    }
    const { generation } = breaker;
    const renewing = trial?.token && setInterval(() => this.#renew(breaker, trial.token), RENEW_MS).unref();
    const started = performance.now();
    let thrown = false;
    let value;
    try {
      value = await fn();
    } catch (error) {
      thrown = true;
      value = error;
    }
    clearInterval(renewing);
    const ms = performance.now() - started;
    let outcome = thrown && exclude(value) ? { ok: null } : judge(thrown, value, breaker.policy);
    if (outcome.ok && breaker.policy.slow_over && ms > breaker.policy.slow_over * 1000) outcome = { ok: false };
    if (trial) await this.#ended(breaker, trial, outcome, ms);
    else this.#finished(breaker, generation, outcome, ms);
    if (thrown) throw value;
    return value;
  }

  /** Whether a call would be refused now, as far as is known here; a trial may still be let through. */
  isOpen(service) {
    return this.#of(service).isOpen;
  }

  /** Tell what was counted, and stop. */
  async close() {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    await this.#report().catch(() => {});
    await this.#following;
  }

  // Calls ----------------------------------------------------------------------------------------

  #of(service) {
    let found = this.#breakers.get(service);
    if (!found) {
      found = new Breaker(service);
      this.#breakers.set(service, found);
      if (this.#words.has(service)) found.learn(...this.#words.get(service));
    }
    return found;
  }

  /** null: no trial is needed any more; {token}: a trial; CircuitOpen: refused. */
  async #enter(breaker) {
    const now = performance.now();
    if (breaker.asking || now < breaker.due || now < breaker.askAfter) return breaker.refusal();
    breaker.asking = true; // until the trial is over, if it is made without wsmon
    if (this.#away || breaker.opened || !breaker.word) return { token: null };
    let wait = 100;
    try {
      const path = `/trial/${encodeURIComponent(breaker.service)}`;
      const answer = await this.#request("POST", path, {}, ASK_MS);
      if (answer.status === 200) return { token: answer.json().trial };
      wait = (Number(answer.headers.get("retry-after")) || 1) * 1000;
    } catch {
      // it does not answer
    } finally {
      breaker.asking = false;
    }
    breaker.askAfter = performance.now() + wait;
    return breaker.isOpen ? breaker.refusal() : null;
  }

  #finished(breaker, generation, outcome, ms) {
    if (outcome.ok === null || breaker.isOpen || generation !== breaker.generation) return;
    breaker.count(outcome, ms);
    if (outcome.ok) return;
    this.#reportLater(breaker.crossed ? 20 : FAILING_MS);
    if (breaker.crossed && (this.#away || !breaker.word)) breaker.openHere(outcome.retry_after);
  }

  #renew(breaker, token) {
    this.#request("POST", `/trial/${encodeURIComponent(breaker.service)}`, { trial: token }).catch(() => {});
  }

  async #ended(breaker, { token }, outcome, ms) {
    if (token !== null) {
      const item = { ...outcome, at: performance.now(), count: 1, ms };
      if (outcome.ok === null) item.status = GIVEN_BACK;
      if (await this.#tell(breaker, [item], 0, token).catch(() => false)) return;
    }
    breaker.asking = false;
    if (outcome.ok) {
      Object.assign(breaker, { opened: null, closedAlone: true, recent: [], score: 0 });
    } else if (outcome.ok === false) {
      breaker.openHere(outcome.retry_after);
    }
  }

  // wsmon ----------------------------------------------------------------------------------------

  async #request(method, path, body, ms = REQUEST_MS, more = {}) {
    try {
      const answer = await fetch(this.#url + path, {
        method,
        headers: { ...this.#headers, ...(body ? { "content-type": "application/json" } : {}), ...more },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(ms),
      });
      const text = await answer.text(); // also where nobody looks at it: an unread answer keeps its connection
      this.#notice(answer.status >= 500 || answer.status === 401 || answer.status === 403);
      return { status: answer.status, headers: answer.headers, json: () => JSON.parse(text) };
    } catch (error) {
      this.#notice(true);
      throw error;
    }
  }

  /** Going on alone: what its own calls say counts from here. */
  #notice(away) {
    this.#away = away;
    if (!away) return;
    for (const breaker of this.#breakers.values()) if (!breaker.isOpen && breaker.crossed) breaker.openHere();
  }

  #reportLater(ms) {
    const at = performance.now() + ms;
    if (this.#stopped.signal.aborted || (this.#timer && this.#timer.at <= at)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      await this.#report().catch(() => {});
      this.#timer = undefined;
      this.#reportLater(REPORT_MS);
    }, ms).unref();
    this.#timer.at = at;
  }

  async #report() {
    for (const breaker of this.#breakers.values()) {
      const first = performance.now() - breaker.policy.window * 1000;
      const items = breaker.items.filter((item) => item.at > first);
      const { rejected } = breaker;
      if ((items.length === 0 && rejected === 0) || performance.now() < this.#holdUntil) continue;
      Object.assign(breaker, { items: [], rejected: 0 });
      const told = await this.#tell(breaker, items, rejected).catch(() => false);
      if (told) continue;
      breaker.items = [...items, ...breaker.items].slice(-MOST_ITEMS);
      breaker.rejected += rejected;
    }
  }

  /** Send outcomes; false when they should be sent again. */
  async #tell(breaker, items, rejected, trial) {
    const { word, service } = breaker;
    const now = performance.now();
    const outcomes = items.map(({ ok, status, retry_after, at, count, ms }) => {
      const late = word && !trial && now - at > REPORT_MS; // then with its time, by wsmon's clock
      const when = late ? { at: new Date(word.clock + (at - word.heard)).toISOString() } : {};
      return { ok: Boolean(ok), duration_ms: Math.round(ms / count), count, status, retry_after, ...when };
    });
    const body = { outcomes, rejected, ...(trial ? { trial } : {}) };
    const answer = await this.#request("POST", `/outcomes/${encodeURIComponent(service)}`, body);
    if (answer.status === 202) {
      const said = answer.json();
      breaker.learn(said, said.now, performance.now());
    } else if (answer.status === 429) {
      this.#holdUntil = performance.now() + (Number(answer.headers.get("retry-after")) || 1) * 1000;
    } else if (answer.status === 404) {
      breaker.word = null; // wsmon has no such service: it is guarded by this process alone
      return true;
    }
    return answer.status < 500 && ![401, 403, 429].includes(answer.status);
  }

  #hear(items, clock, all) {
    const heard = performance.now();
    if (all) this.#words.clear();
    for (const item of items) {
      const word = [item, clock ?? item.now, heard];
      this.#words.set(item.service, word);
      this.#breakers.get(item.service)?.learn(...word);
    }
    this.onFirstWord?.();
  }

  async #poll() {
    try {
      const answer = await this.#request("GET", "/status", undefined, REQUEST_MS, { "if-none-match": this.#etag });
      if (answer.status !== 200) return;
      this.#etag = answer.headers.get("etag") ?? "";
      const { breakers, last_updated } = answer.json();
      this.#hear(breakers, last_updated, true);
    } catch {
      // `#request` has noticed
    }
  }

  /** Keep the stream open; ask by hand while there is none. */
  async #follow() {
    const { signal } = this.#stopped;
    let wait = 1000;
    let polled = performance.now();
    while (!signal.aborted) {
      try {
        await this.#stream(signal);
      } catch {
        // again, after a while
      }
      wait = this.#hasStream ? 1000 : Math.min(wait * 2, 30_000);
      this.#hasStream = false;
      await pause(wait * (0.7 + 0.6 * Math.random()), signal);
      if (!signal.aborted && performance.now() - polled > POLL_MS) {
        polled = performance.now();
        await this.#poll();
      }
    }
  }

  async #stream(stop) {
    const silent = new AbortController();
    const watch = setTimeout(() => silent.abort(), SILENCE_MS).unref();
    const end = () => silent.abort();
    stop.addEventListener("abort", end);
    try {
      const answer = await fetch(`${this.#url}/stream`, { headers: this.#headers, signal: silent.signal });
      if (!answer.ok) return;
      this.#hasStream = true;
      this.#away = false;
      let text = "";
      const decoder = new TextDecoder();
      for await (const chunk of answer.body) {
        watch.refresh();
        const blocks = (text + decoder.decode(chunk, { stream: true })).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) this.#event(block);
      }
    } finally {
      clearTimeout(watch);
      stop.removeEventListener("abort", end);
    }
  }

  #event(block) {
    const name = /^event: (.*)$/m.exec(block)?.[1];
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (name === "breakers") this.#hear(JSON.parse(data), undefined, true);
    else if (name === "breaker") this.#hear([JSON.parse(data)]);
  }
}

function pause(ms, signal) {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms).unref();
    signal.addEventListener("abort", end);
  });
}

/** Connect to a wsmon: `{url, token}`. Its absence fails nothing: breakers then go by this process's own calls. */
export function connect(options) {
  return new Breakers(options).start();
}
