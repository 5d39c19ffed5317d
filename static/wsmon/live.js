/* The one live connection of a page, and the indicator that says how fresh the page is.

   htmx's SSE extension asks for its EventSource here. It gets a LiveSource, which looks like one but
   also notices connections that died in silence, never waits longer than five seconds, and tells the
   page to fetch what it shows once after a gap: event "resync" on <body>. */
(() => {
  "use strict";
  const wsmon = (window.wsmon = window.wsmon || {});
  const STALE_AFTER = 15000;
  const HIDE_AFTER = 5000;
  const DEAD_AFTER = 25000; /* the server pings every 10 s */
  const indicator = document.getElementById("live");
  const state = { connected: false, feed: true, signedOut: false, full: false, last: wsmon.now(), lost: 0, gap: false };
  if (indicator) state.last = Number(indicator.dataset.rendered) * 1000 || state.last;

  class LiveSource {
    constructor(url) {
      this.url = url;
      this.listeners = [];
      this.tries = 0;
      this.readyState = EventSource.CONNECTING;
      this.connect();
      window.addEventListener("online", () => this.again(0));
      window.addEventListener("pageshow", (event) => { if (event.persisted) { state.gap = true; this.again(0); } });
      window.addEventListener("pagehide", () => this.source?.close());
      document.addEventListener("visibilitychange", () => this.look());
      setInterval(() => this.watch(), 1000);
    }

    /* Browsers allow six connections per host without HTTP/2: tabs in the background give theirs back. */
    look() {
      clearTimeout(this.hiding);
      if (document.hidden) this.hiding = setTimeout(() => this.sleep(), HIDE_AFTER);
      else if (this.asleep) {
        this.asleep = false;
        this.again(0);
      }
    }

    sleep() {
      this.asleep = true;
      clearTimeout(this.timer);
      this.source.close();
      lost();
    }

    connect() {
      clearTimeout(this.timer);
      this.source?.close();
      this.began = Date.now();
      const since = indicator && !state.gap ? `?since=${indicator.dataset.rendered}` : "";
      const source = new EventSource(this.url + since);
      this.source = source;
      for (const [name, listener] of this.listeners) source.addEventListener(name, listener);
      source.onopen = () => {
        this.readyState = EventSource.OPEN;
        this.onopen?.();
      };
      source.onerror = () => {
        if (source !== this.source) return;
        lost();
        if (source.readyState === EventSource.CLOSED) {
          this.ask();
          this.again();
        }
      };
      source.addEventListener("hello", (event) => { this.tries = 0; found(event); });
      source.addEventListener("ping", heard);
      source.addEventListener("resync", () => resync(1500));
      source.addEventListener("signed-out", () => this.signOut());
      source.addEventListener("tick", alive);
      source.addEventListener("list", alive);
    }

    /* Connect again: at once, or after 1, 2, 4, 5, 5 ... seconds, each a little shortened by chance. */
    again(wait) {
      if (state.signedOut || this.asleep) return;
      clearTimeout(this.timer);
      const delay = wait ?? Math.min(5000, 1000 * 2 ** this.tries++) * (0.6 + 0.4 * Math.random());
      this.timer = setTimeout(() => this.connect(), delay);
    }

    watch() {
      if (this.asleep) return;
      if (state.connected && Date.now() - this.heardAt > DEAD_AFTER) { lost(); this.again(0); }
      else if (!state.connected && this.source.readyState === EventSource.CONNECTING && Date.now() - this.began > 12000) this.again(0);
      show();
    }

    /* An EventSource does not tell why it was refused; a HEAD does. 429: too many open pages, for now. */
    async ask() {
      try {
        const answer = await fetch(this.url, { method: "HEAD", cache: "no-store" });
        if (answer.status === 403) this.signOut();
        state.full = answer.status === 429;
        if (state.full) this.again(1000 * (Number(answer.headers.get("Retry-After")) || 5));
      } catch {
        /* not reachable: try on */
      }
    }

    signOut() {
      state.signedOut = true;
      this.source.close();
      clearTimeout(this.timer);
      lost();
    }

    addEventListener(name, listener) {
      this.listeners.push([name, listener]);
      this.source.addEventListener(name, listener);
    }

    removeEventListener(name, listener) {
      this.listeners = this.listeners.filter(([n, l]) => n !== name || l !== listener);
      this.source.removeEventListener(name, listener);
    }

    close() {
      this.source.close();
    }
  }

  let live;

  function alive() {
    live.heardAt = Date.now();
    if (state.feed) state.last = wsmon.now();
  }

  function heard(event) {
    const { now, feed } = JSON.parse(event.data);
    const skew = now * 1000 - Date.now();
    if (Math.abs(skew - wsmon.skew) > 500) wsmon.skew = skew;
    if (!feed && state.feed) state.lost = wsmon.now();
    state.feed = feed;
    alive();
    show();
  }

  function found(event) {
    const gap = state.gap;
    state.connected = true;
    state.full = false;
    state.gap = false;
    heard(event);
    if (gap) resync(0);
  }

  function lost() {
    if (state.connected) state.lost = wsmon.now();
    else if (!state.lost) state.lost = wsmon.now();
    state.connected = false;
    state.gap = true;
    show();
  }

  let resyncing;
  function resync(spread) {
    clearTimeout(resyncing);
    resyncing = setTimeout(() => document.body.dispatchEvent(new CustomEvent("resync")), spread * Math.random());
  }

  function show() {
    if (!indicator) return;
    const fresh = state.connected && state.feed;
    if (fresh) state.lost = 0;
    const away = wsmon.now() - (state.lost || wsmon.now());
    const kind = fresh ? "live" : state.signedOut || away >= STALE_AFTER ? "stale" : "reconnecting";
    const age = wsmon.coarse(Math.max(0, Math.floor((wsmon.now() - state.last) / 1000)));
    const word = fresh ? "Live" : state.signedOut ? "Signed out" : kind === "stale" ? `Stale ${age}` : "Reconnecting…";
    const title = fresh ? "Connected: changes appear by themselves"
      : state.signedOut ? "Your session ended. Reload the page to sign in again"
      : `${state.connected ? "wsmon cannot hear its database" : state.full ? "You have too many pages of wsmon open" : "No connection to wsmon"}. What you see is ${age} old; it comes back by itself`;
    if (indicator.dataset.s !== kind) indicator.dataset.s = kind;
    const label = indicator.querySelector(".w");
    if (label.textContent !== word) label.textContent = word;
    if (indicator.title !== title) indicator.title = title;
    document.documentElement.classList.toggle("ws-stale", kind === "stale");
  }

  if (window.htmx) {
    htmx.createEventSource = (url) => {
      live = live || new LiveSource(url);
      wsmon.live = live;
      return live;
    };
  }
})();
