/* Breakers: fresh numbers without a jump, countdowns, and the panels that ask before an action.

   The breakers' page asks for its list every 3 s and when a breaker changes. The answer is put in part by
   part: what did not change stays, rows move only while nobody is about to use them, and a row whose panel
   is open stays as it is. The service's page (service.js) swaps its card as one piece. */
(() => {
  "use strict";
  const wsmon = (window.wsmon = window.wsmon || {});
  const EVERY = 3000;
  const MOVE_EVERY = 5000;
  const APART = 300; /* ms between two looks, however many breakers change */
  const RING = 2 * Math.PI * 19;
  const page = () => document.getElementById("breakers");
  const panelIn = (element) => element?.querySelector("[data-panel] .ws-confirm-panel");
  const editing = (row) => Boolean(panelIn(row) || row.querySelector(".htmx-request"));

  /* Countdowns ------------------------------------------------------------------------------------- */
  const short = (s) => (s < 120 ? `${s}` : s < 7200 ? `${Math.floor(s / 60)}m` : `${Math.floor(s / 3600)}h`);

  function rings() {
    for (const ring of document.querySelectorAll(".ws-ring[data-due]")) {
      const left = wsmon.left(ring.dataset.due);
      const text = ring.querySelector("text");
      if (text.textContent !== short(left)) text.textContent = short(left);
      ring.dataset.left = left;
      const share = Math.min(1, left / Number(ring.dataset.of));
      ring.querySelector(".fl").setAttribute("stroke-dasharray", `${(RING * share).toFixed(1)} ${RING.toFixed(1)}`);
    }
  }
  rings();
  setInterval(() => { if (!document.hidden) rings(); }, 1000);
  document.addEventListener("htmx:afterSwap", rings);
  document.addEventListener("htmx:oobAfterSwap", rings);

  /* Panels that ask are of asks.js; what it closes makes room for news. */
  document.addEventListener("wsmon:closed", () => soon(0));

  let acted = "";
  document.addEventListener("htmx:afterRequest", (event) => {
    const { requestConfig, xhr } = event.detail; /* the form itself is gone by now */
    const form = requestConfig?.elt;
    if (form?.matches?.(".brk-panel") && xhr?.status === 200) acted = form.getAttribute("hx-target").slice(1);
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (acted) {
      const row = document.getElementById(acted);
      acted = "";
      row?.querySelectorAll("[data-asks]").forEach((link) => link.setAttribute("aria-expanded", "false"));
      document.getElementById(`${row?.id}-a`)?.focus();
      own = true;
      soon(0);
    }
  });

  /* The service's page: its card is not taken away from under somebody's hands. */
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const old = event.detail.target;
    if (old.matches?.(".brk-card") && editing(old)) event.detail.shouldSwap = false;
  });

  /* Freshness ----------------------------------------------------------------------------------------- */
  let timer;
  let own = false;
  let movedAt = 0;
  let pointedAt = 0;
  let pointer = false;
  let lookedAt = 0;

  function soon(wait) {
    if (!page()) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      lookedAt = Date.now();
      if (!document.hidden) htmx.trigger(page(), "refresh");
      soon(EVERY);
    }, Math.max(wait, lookedAt + APART - Date.now()));
  }

  function attach(source) {
    if (source.breakersAttached) return;
    source.breakersAttached = true;
    source.addEventListener("breakers", () => soon(0));
  }

  if (page()) {
    if (wsmon.live) attach(wsmon.live);
    document.addEventListener("htmx:sseOpen", (event) => attach(event.detail.source));
    document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(0); });
    document.addEventListener("pointermove", (event) => {
      pointer = Boolean(event.target.closest?.("#brk-list"));
      pointedAt = Date.now();
    }, { passive: true });
    soon(EVERY);
  }

  /* Rows move at most every 5 s, not while the focus is in the list, nor the pointer unless it rests. */
  function mayMove() {
    const list = document.getElementById("brk-list");
    if ([...list.querySelectorAll(".brk")].some(editing)) return false;
    if (own) return true;
    if (pointer && Date.now() - pointedAt < MOVE_EVERY) return false;
    return !list.contains(document.activeElement) && Date.now() - movedAt >= MOVE_EVERY;
  }

  /* What the server sent last of each part: the browser counts in what is shown, so that differs. */
  const sent = new WeakMap();
  function put(old, fresh) {
    const html = fresh.innerHTML;
    if (sent.get(old) === html) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.innerHTML = html;
    sent.set(old, html);
    htmx.process(old);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function update(row, fresh) {
    if (editing(row)) return;
    for (const name of ["data-s", "data-att", "data-group"]) {
      const value = fresh.getAttribute(name);
      if (value === null) row.removeAttribute(name);
      else if (row.getAttribute(name) !== value) row.setAttribute(name, value);
    }
    for (const part of row.querySelectorAll("[data-part]")) {
      const news = fresh.querySelector(`[data-part=${part.dataset.part}]`);
      if (news) put(part, news);
    }
  }

  function place(fresh) {
    const focused = page().contains(document.activeElement) ? document.activeElement : null;
    const known = new Map([...page().querySelectorAll(".brk")].map((row) => [row.id, row]));
    for (const group of fresh.querySelectorAll("[data-under]")) {
      const list = page().querySelector(`[data-under=${group.dataset.under}] > ul`);
      const rows = [...group.querySelectorAll(".brk")].map((row) => known.get(row.id) || added(row));
      const same = rows.length === list.children.length && rows.every((row, index) => row === list.children[index]);
      if (!same) list.replaceChildren(...rows);
      list.parentElement.hidden = group.hidden;
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
    if (own) focused?.closest?.(".brk")?.scrollIntoView({ block: "nearest" });
    movedAt = Date.now();
    own = false;
  }

  function added(row) {
    const copy = document.importNode(row, true);
    htmx.process(copy);
    return copy;
  }

  const order = (root) =>
    [...root.querySelectorAll("[data-under]")].map((group) =>
      [group.dataset.under, ...[...group.querySelectorAll(".brk")].map((row) => row.id)].join()).join(";");
  const bare = (root) => [Boolean(root.querySelector("[data-none]")), Boolean(root.querySelector("#brk-list .ws-pager"))].join();

  /* False when it takes more than this: then the list is swapped as a whole. */
  function merge(html) {
    const parsed = new DOMParser().parseFromString(`<body>${html}</body>`, "text/html");
    const fresh = parsed.getElementById("breakers");
    if (!fresh || bare(fresh) !== bare(page())) return !fresh || !mayMove();
    for (const row of fresh.querySelectorAll(".brk")) {
      const old = document.getElementById(row.id);
      if (old) update(old, row);
    }
    for (const count of parsed.querySelectorAll("[data-count]")) {
      const old = document.querySelector(`[data-count="${count.dataset.count}"]`);
      if (old) old.textContent = count.textContent;
    }
    for (const group of fresh.querySelectorAll("[data-under]")) {
      page().querySelector(`[data-under=${group.dataset.under}] [data-size]`).textContent = group.querySelector("[data-size]").textContent;
    }
    const log = document.getElementById("brk-log");
    if (!log.contains(document.activeElement)) put(log, fresh.querySelector("#brk-log"));
    if (order(fresh) !== order(page()) && mayMove()) place(fresh);
    else if (own && order(fresh) === order(page())) own = false;
    wsmon.writeTimes();
    rings();
    return true;
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { requestConfig, xhr, target } = event.detail;
    if (target?.id !== "breakers" || requestConfig.elt?.id !== "breakers" || xhr.status !== 200) return;
    if (merge(xhr.responseText)) event.detail.shouldSwap = false;
  });
})();
