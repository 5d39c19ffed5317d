/* Live rows: values change in place; rows move between groups at most every 5 s and never while the
   pointer or the focus is in the list. */
(() => {
  "use strict";
  const wsmon = window.wsmon;
  const ORDER_EVERY = 5000;
  let movedAt = 0;
  let waiting;
  let pointer = false;

  const list = () => document.getElementById("list");
  const row = (id) => document.getElementById(`svc-${id}`);

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse") pointer = Boolean(event.target.closest?.("#list"));
  });
  document.documentElement.addEventListener("pointerleave", () => { pointer = false; });

  const busy = () => pointer || (list()?.contains(document.activeElement) ?? false);

  /* A row's new HTML: keep what belongs to this page (period, cursor, a test's result), then swap. */
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    const old = event.target;
    if (!old.matches?.("li.svc")) return;
    event.preventDefault();
    const template = document.createElement("template");
    template.innerHTML = event.detail.data;
    const fresh = template.content.firstElementChild;
    if (!fresh) return refetch();
    if (list().dataset.period !== "24h") {
      for (const part of [".upw", ".pct"]) {
        const kept = old.querySelector(part);
        if (kept) fresh.querySelector(part)?.replaceWith(kept);
      }
    }
    const result = old.querySelector(".test");
    if (result?.childElementCount) fresh.querySelector(".test")?.replaceWith(result);
    if (old.classList.contains("is-cursor")) fresh.classList.add("is-cursor");
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(fresh);
    htmx.process(fresh);
    wsmon.writeTimes();
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  });

  /* Which services changed, and how many there are of each state. */
  function listed(event) {
    const { ids, counts } = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-count]")) {
      const number = counts[element.dataset.count];
      if (number !== undefined) element.textContent = number;
    }
    if (counts.all && document.querySelector("[data-empty]")) location.reload();
    const box = list();
    if (!box) return;
    if (box.dataset.live === "refetch" || ids.some((id) => !row(id))) refetch(1500);
    else soon();
  }

  function soon() {
    clearTimeout(waiting);
    const wait = Math.max(0, movedAt + ORDER_EVERY - Date.now());
    waiting = setTimeout(() => (busy() ? soonAfterLeaving() : place()), wait);
  }

  function soonAfterLeaving() {
    clearTimeout(waiting);
    waiting = setTimeout(() => (busy() ? soonAfterLeaving() : place()), 500);
  }

  function place() {
    movedAt = Date.now();
    for (const group of list().querySelectorAll("[data-group]")) {
      const rows = [...list().querySelectorAll("li.svc")]
        .filter((item) => item.dataset.in === group.dataset.group)
        .sort((a, b) => (a.dataset.order < b.dataset.order ? -1 : 1));
      const box = group.querySelector("ul");
      const same = rows.length === box.children.length && rows.every((item, index) => box.children[index] === item);
      if (!same) box.append(...rows);
      group.hidden = rows.length === 0;
      group.querySelector("[data-size]").textContent = rows.length;
    }
  }

  let fetching;
  function refetch(spread = 0) {
    clearTimeout(fetching);
    const box = list();
    if (!box) return;
    const wait = Math.max(spread * Math.random(), movedAt + ORDER_EVERY - Date.now(), 0);
    fetching = setTimeout(() => {
      if (busy() && !box.classList.contains("wall-grid")) return refetch(1000);
      movedAt = Date.now();
      htmx.trigger(list(), "refresh");
    }, box.classList.contains("wall-grid") ? Math.min(wait, 300) : wait);
  }
  wsmon.refetch = refetch;

  /* Somebody may have begun to use the list while it was on its way: a test's result would get lost. */
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { requestConfig, target } = event.detail;
    if (target?.id !== "list" || requestConfig.elt !== target) return;
    if (!busy() && !target.querySelector(".htmx-request")) return;
    event.detail.shouldSwap = false;
    refetch(1000);
  });

  /* A service's first results find dashes where numbers will be. */
  const EMPTY_SPARK = '<svg class="ws-spark" viewBox="0 0 96 24" preserveAspectRatio="none" role="img" data-ms=""><title></title><path class="ar"/><polyline class="ln"/><circle class="pt" r="2"/></svg>';

  function part(item, cell, selector, html) {
    const found = item.querySelector(selector);
    const box = item.querySelector(cell);
    if (found || !box) return found;
    box.innerHTML = html;
    return box.querySelector(selector);
  }

  function ticked(event) {
    const { services } = JSON.parse(event.data);
    for (const [id, checks] of Object.entries(services)) {
      const item = row(id);
      if (!item) continue;
      const epoch = Math.max(...Object.values(checks).map((check) => check[1]));
      const ms = checks[item.dataset.main]?.[0] ?? null; // the row's numbers are one check's
      const time = part(item, ".last", ".last time", "<time></time>");
      if (time) {
        time.dataset.ago = "";
        wsmon.setTime(time, epoch);
      }
      if (ms === null) continue;
      const value = part(item, ".lat", "[data-value]", '<span data-value></span><span class="u">ms</span>');
      if (value) value.textContent = ms < 1 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en-US");
      const spark = part(item, ".sp", ".ws-spark", EMPTY_SPARK);
      if (spark) draw(spark, ms);
    }
  }

  /* Uptime moves slowly and no event carries it: a new service's first bar, then every ten minutes. */
  let minutes = 0;
  setInterval(() => {
    minutes += 1;
    if (document.hidden) return;
    if (list()?.querySelector('.svc[data-s="healthy"] .pct .ink3')) refetch(5000);
    else if (minutes % 10 === 0) refetch(60000);
  }, 60000);

  /* The same picture as monitoring/templatetags/wsmon_ui.py draws, with one value more. */
  function draw(svg, ms) {
    const values = svg.dataset.ms.split(",").slice(svg.dataset.ms ? 0 : 1).map((text) => (text === "" ? null : Number(text)));
    values.push(Math.round(ms));
    while (values.length > 30) values.shift();
    svg.dataset.ms = values.map((value) => value ?? "").join(",");
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const limit = Number(svg.dataset.limit) || 0;
    const known = values.filter((value) => value !== null);
    const near = limit && Math.max(...known) > limit / 4;
    const top = Math.max(...known, near ? limit : 0, 1) * 1.15;
    const y = (value) => (height - 2 - (height - 5) * Math.min(1, value / top)).toFixed(1);
    const step = (width - 3) / Math.max(1, values.length - 1);
    const points = values
      .map((value, index) => (value === null ? null : `${(index * step).toFixed(1)},${y(value)}`))
      .filter(Boolean);
    svg.querySelector(".ln").setAttribute("points", points.join(" "));
    const [firstX] = points[0].split(",");
    const [lastX, lastY] = points.at(-1).split(",");
    svg.querySelector(".ar").setAttribute("d", `M${firstX} ${height} L${points.join(" L")} L${lastX} ${height}z`);
    const dot = svg.querySelector(".pt");
    dot.setAttribute("cx", lastX);
    dot.setAttribute("cy", lastY);
    svg.querySelector(".th")?.setAttribute("d", `M0 ${y(limit)}H${width}`);
    const words = `last ${values.length} response time${values.length === 1 ? "" : "s"}, now ${Math.round(ms).toLocaleString("en-US")} ms${near ? `, degraded over ${Math.round(limit).toLocaleString("en-US")} ms` : ""}`;
    svg.setAttribute("aria-label", words);
    svg.querySelector("title").textContent = words;
  }

  document.body.addEventListener("resync", () => { movedAt = 0; refetch(); });
  document.addEventListener("htmx:sseOpen", (event) => {
    const source = event.detail.source;
    if (source.rowsAttached) return;
    source.rowsAttached = true;
    source.addEventListener("list", listed);
    source.addEventListener("tick", ticked);
  });
})();
