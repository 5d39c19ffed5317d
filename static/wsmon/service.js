/* The service page: keeps its parts fresh, draws the chart, keeps focus where it was. */
(() => {
  "use strict";
  const wsmon = (window.wsmon = window.wsmon || {});
  const holder = () => document.getElementById("svc-live");
  if (!holder()) return;
  const service = holder().dataset.service;

  /* Freshness: a change shows at once, ordinary results at most every 3 s, the chart every 15 s. */
  const TABLE_EVERY = 3000;
  const CHART_EVERY = { "1h": 15000, "24h": 60000 };
  let fetchedAt = Date.now();
  let chartAt = Date.now();
  let timer;

  /* Who asks must stay in the page until the answer is there, or htmx finds nothing to put it into. */
  const source = () => document.getElementById("svc-source");

  /* One at a time: of several from one element htmx would keep the last alone, and lose what asks for the rest. */
  const GIVE_UP = 30000;
  let askedAt = 0;
  let again = false;

  function refresh(wait) {
    clearTimeout(timer);
    timer = setTimeout(ask, Math.max(0, wait));
  }

  async function ask() {
    if (document.hidden) return;
    if (Date.now() - askedAt < GIVE_UP) { again = true; return; }
    askedAt = fetchedAt = Date.now();
    try {
      await htmx.ajax("GET", holder().dataset.url, { source: source(), swap: "none" });
      await refreshLog();
    } catch {
      /* The live indicator tells that there is no connection. */
    }
    askedAt = 0;
    const plot = document.getElementById("chart-plot");
    if (plot && Date.now() - chartAt > (CHART_EVERY[plot.dataset.period] || 300000)) loadChart();
    if (again) { again = false; refresh(0); }
  }

  function logUrl() {
    const url = document.getElementById("svc-results")?.dataset.refresh;
    return url && `${url}${url.includes("?") ? "&" : "?"}refresh=1`;
  }

  function refreshLog() {
    const url = logUrl();
    const log = document.getElementById("svc-log");
    if (!url || log.contains(document.activeElement) || document.querySelector("#svc-results .htmx-request")) return undefined;
    return htmx.ajax("GET", url, {
      source: source(), target: "#svc-log", select: "#svc-log", swap: "outerHTML", selectOOB: "#log-total,#show-unhealthy",
    });
  }

  function attach(source) {
    if (source.serviceAttached) return;
    source.serviceAttached = true;
    source.addEventListener(`svc-${service}`, () => refresh(100));
    source.addEventListener("breakers", (event) => {
      const { ids } = JSON.parse(event.data);
      if (!ids.length || ids.includes(Number(service))) refresh(100);
    });
    source.addEventListener("tick", (event) => {
      if (service in JSON.parse(event.data).services) refresh(TABLE_EVERY - (Date.now() - fetchedAt));
    });
  }
  /* The checks of a breaker that is not closed wait, so no result brings its numbers. */
  setInterval(() => {
    const waits = document.querySelector(".brk-card:not([data-s=CLOSED])");
    if (waits && !document.hidden && Date.now() - fetchedAt >= TABLE_EVERY) refresh(0);
  }, TABLE_EVERY);
  if (wsmon.live) attach(wsmon.live);
  document.addEventListener("htmx:sseOpen", (event) => attach(event.detail.source));
  document.body.addEventListener("resync", () => { chartAt = 0; refresh(0); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(0); });

  /* Nothing is taken away from under somebody's hands: an open panel, a form that is being sent. */
  let answered;
  document.addEventListener("htmx:beforeOnLoad", (event) => { answered = event.detail.elt; });
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const old = event.detail.target;
    const sending = [...old.querySelectorAll(".htmx-request")].some((element) => element !== answered);
    const held = old.id === "svc-acts" && (old.querySelector("details[open]") || old.contains(document.activeElement));
    if (sending || held) event.detail.shouldSwap = false;
  });
  /* What was asked of another period or filter than the page shows by now comes too late: it is asked again. */
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { requestConfig, target } = event.detail;
    if (requestConfig.elt !== source()) return;
    const shown = target.id === "svc-log" ? logUrl() : holder().dataset.url;
    const late = requestConfig.path !== shown;
    if (late) again = true;
    /* Nor is it taken from under the log's: a link that is taken out of the page gets its answer, but not the chart's links. */
    const waited = target.id === "svc-log" && document.querySelector("#svc-results .htmx-request");
    if (late || waited) event.detail.shouldSwap = false;
  });

  /* Answers that explain what is wrong with a form are shown, although their status is not 200. */
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if ([422, 429].includes(xhr.status) && ["svc-acts", "test-result"].includes(target.id)) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });

  document.addEventListener("htmx:afterSettle", (event) => {
    const acts = document.getElementById("svc-acts");
    if (event.detail.target?.id !== "svc-acts" || !acts) return;
    const wrong = acts.querySelector("details[open] [aria-invalid=true]") || acts.querySelector("details[open] input:not([type=hidden])");
    (wrong || acts.querySelector("button, summary"))?.focus();
  });

  /* A toast tells what happened and goes; the page itself shows it too. */
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    if (event.detail.target?.id !== "toasts") return;
    const toasts = [...event.detail.target.children];
    toasts.slice(0, -1).forEach((toast) => toast.remove());
    setTimeout(() => toasts.at(-1)?.remove(), 8000);
  });

  /* A disabled button loses the focus; it comes back with the result. */
  document.addEventListener("htmx:afterRequest", (event) => {
    const button = event.detail.elt;
    if (button.closest?.("#tests") && document.activeElement === document.body) setTimeout(() => button.focus(), 0);
  });

  /* The chart ------------------------------------------------------------------------------------- */
  const zone = document.documentElement.dataset.tz || "UTC";
  const clock = (options) => {
    try {
      return new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
    } catch {
      return new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
    }
  };
  const minute = clock({ hour: "2-digit", minute: "2-digit" });
  const day = clock({ weekday: "short", day: "numeric" });
  const date = clock({ day: "numeric", month: "short" });
  const moment = clock({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const at = (format, seconds) => format.format(new Date(seconds * 1000)).replaceAll(",", "");
  const ms = (value) => (value === null || value === undefined ? "–" : `${value >= 1 ? Math.round(value).toLocaleString("en-US") : value.toFixed(1)} ms`);
  const axisMs = (value) => (value === 0 ? "0" : value >= 1000 ? `${+(value / 1000).toFixed(1)} s` : `${+value.toFixed(1)} ms`);

  let plot;
  let found;
  let colours;

  function readColours() {
    const probe = document.createElement("i");
    document.body.append(probe);
    const names = { p50: "--ws-ink-3", p95: "--ws-accent", grid: "--ws-line", text: "--ws-ink-3", limit: "--ws-warn-mark",
      limitText: "--ws-warn", degraded: "--ws-warn-mark", critical: "--ws-crit-mark", error: "--ws-ours-mark",
      degradedText: "--ws-warn", criticalText: "--ws-crit", errorText: "--ws-ours" };
    colours = {};
    for (const [name, variable] of Object.entries(names)) {
      probe.style.color = `var(${variable})`;
      colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  const alpha = (colour, share) => colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

  /* Behind the lines: what was not healthy. In front: the limit. */
  function drawBands(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const band of found.bands) {
      const left = Math.max(bbox.left, u.valToPos(band.from, "x", true));
      const right = Math.min(bbox.left + bbox.width, u.valToPos(band.to, "x", true));
      if (right < bbox.left || left > bbox.left + bbox.width) continue;
      ctx.fillStyle = alpha(colours[band.status], 0.1);
      ctx.fillRect(left, bbox.top, Math.max(ratio, right - left), bbox.height);
      ctx.fillStyle = colours[band.status];
      ctx.fillRect(left, bbox.top, ratio, bbox.height);
      if (band.to < found.to) continue; /* over */
      const words = `${band.status} since ${at(found.to - band.from < 86400 ? minute : moment, band.from)}`;
      ctx.font = `600 ${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
      ctx.fillStyle = colours[`${band.status}Text`];
      const room = bbox.left + bbox.width - left > ctx.measureText(words).width + 12 * ratio;
      ctx.textAlign = room ? "left" : "right";
      ctx.fillText(words, room ? left + 6 * ratio : left - 6 * ratio, bbox.top + 12 * ratio);
    }
    ctx.restore();
  }

  function drawLimit(u) {
    if (!found.limit) return;
    const y = Math.round(u.valToPos(found.limit, "y", true));
    const { ctx, bbox } = u;
    if (y < bbox.top) return;
    ctx.save();
    ctx.strokeStyle = colours.limit;
    ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  }

  function read(u) {
    const box = document.getElementById("chart-readout");
    const index = u.cursor.idx;
    if (!box) return;
    if (index === null || index === undefined || !told(index)) { box.textContent = ""; return; }
    if ((found.p50[index] ?? null) === null) { box.textContent = foretold(index); return; }
    const failed = found.failed[index] ? `, ${found.failed[index]} failed` : "";
    const time = at(found.to - found.from > 90000 ? moment : minute, found.t[index]);
    box.textContent = `${time}: p50 ${ms(found.p50[index])}, p95 ${ms(found.p95[index])}, p99 ${ms(found.p99[index])}; ${found.count[index]} probes${failed}`;
  }

  /* Past the last point: the forecast. */
  const told = (index) => (found.p50[index] ?? plot.data[4][index] ?? null) !== null;
  function foretold(index) {
    const [least, most] = [plot.data[5][index], plot.data[6][index]];
    return `${at(found.to - found.from > 90000 ? moment : minute, plot.data[0][index])}: p95 is expected to be ${ms(plot.data[4][index])}, ${ms(least)} to ${ms(most)}`;
  }

  function drawForecast(u) {
    const ahead = found.forecast;
    if (!ahead.t) return;
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const now = Math.round(u.valToPos(found.to, "x", true));
    const last = ahead.t.length - 1;
    const end = Math.min(bbox.left + bbox.width, u.valToPos(ahead.t[last], "x", true));
    if (end <= bbox.left || now > bbox.left + bbox.width) return;
    ctx.save();
    ctx.font = `600 ${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.fillStyle = colours.text;
    if (now >= bbox.left) {
      ctx.fillRect(now, bbox.top, ratio, bbox.height);
      ctx.textAlign = "left";
      ctx.fillText("now", now + 6 * ratio, bbox.top + bbox.height - 6 * ratio);
    }
    ctx.textAlign = "right";
    /* Above the limit, which it goes to: below are the lines of what was, on phones right beside. */
    const y = u.valToPos(ahead.p95[last], "y", true) - 8 * ratio;
    ctx.fillText(`forecast ${axisMs(ahead.p95[last])}`, end, Math.max(bbox.top + 12 * ratio, y));
    ctx.restore();
  }

  const splits = (u, values, axis, space, step) =>
    values.map((value) => {
      if (step >= 86400) return at(date, value);
      const text = at(minute, value);
      return text === "00:00" ? at(day, value) : text;
    });

  function options(box) {
    const stroke = (name) => () => colours[name];
    const grid = { stroke: stroke("grid"), width: 1 };
    const font = `500 11px ${getComputedStyle(document.body).fontFamily}`;
    const line = (label, name, extra) => ({
      label, stroke: stroke(name), width: 1.6, points: { show: false, size: 5, filter: alone }, ...extra,
    });
    return {
      ...size(box),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { y: { range: (u, low, high) => [0, Math.max(1, high || 1, near(high)) * 1.12] } },
      axes: [
        { stroke: stroke("text"), grid: { show: false }, ticks: { show: false }, font, values: splits, space: 70, size: 28 },
        { stroke: stroke("text"), grid, ticks: { show: false }, font, size: 56, values: (u, values) => values.map(axisMs) },
      ],
      series: [
        {},
        line("p50", "p50"),
        line("p95", "p95", { width: 2 }),
        line("p99", "p95", { dash: [5, 3], width: 1.4 }),
        line("forecast", "p95", { dash: [1.5, 3], width: 2 }),
        line("least", "p95", { width: 0 }),
        line("most", "p95", { width: 0 }),
      ],
      bands: [
        { series: [3, 1], fill: () => alpha(colours.p95, 0.08) },
        { series: [6, 5], fill: () => alpha(colours.p95, 0.08) },
      ],
      hooks: { drawAxes: [drawBands], draw: [drawLimit, drawForecast], setCursor: [read] },
    };
  }

  /* A line needs two points; one that has no neighbour is drawn as a dot. */
  const alone = (u, series) =>
    u.data[series].flatMap((value, index, all) =>
      value !== null && (all[index - 1] ?? null) === null && (all[index + 1] ?? null) === null ? [index] : []);

  const near = (high) => (found.limit && high > found.limit / 4 ? found.limit : 0);
  const size = (box) => ({ width: Math.max(240, box.clientWidth), height: innerWidth < 768 ? 200 : 264 });
  /* What was, then what is expected; the gap between them has one empty point. */
  function columns() {
    const { t = [], p95 = [], least = [], most = [] } = found.forecast;
    const gap = t.length ? [] : [found.to];
    const later = [...gap, ...t].map(() => null);
    const before = found.t.map(() => null);
    return [
      [...found.t, ...gap, ...t],
      ...[found.p50, found.p95, found.p99].map((values) => [...values, ...later]),
      ...[p95, least, most].map((values) => [...before, ...gap.map(() => null), ...values]),
    ];
  }

  /* A young service has few points: the time axis is never shorter than this. */
  const SHORTEST = { "1h": 900, "24h": 10800, "7d": 172800, "90d": 1209600 };
  function widened(data, period) {
    const start = data.to - SHORTEST[period];
    if (!data.t.length || data.t[0] <= start) return data;
    data.t.unshift(start);
    for (const name of ["p50", "p95", "p99"]) data[name].unshift(null);
    for (const name of ["count", "failed"]) data[name].unshift(0);
    return data;
  }

  async function loadChart() {
    const box = document.getElementById("chart-plot");
    if (!box) return;
    chartAt = Date.now();
    let answer;
    try {
      answer = await fetch(box.dataset.series, { headers: { Accept: "application/json" }, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const data = await answer.json();
      if (!box.isConnected) return; /* another period was chosen meanwhile */
      found = widened(data, box.dataset.period);
    } catch {
      if (!plot) box.textContent = "The chart's numbers did not arrive. They are in the table below.";
      return;
    }
    const key = document.getElementById("chart-forecast-key");
    if (key) key.hidden = !found.forecast.t;
    if (plot && plot.root.parentNode === box) update();
    else build(box);
    const last = found.t.length - 1;
    for (const name of ["p50", "p95", "p99"]) {
      const cell = document.querySelector(`[data-last=${name}]`);
      if (cell && last >= 0) cell.textContent = ms(found[name][last]);
    }
  }

  function build(box) {
    plot?.destroy();
    readColours();
    box.replaceChildren();
    plot = new uPlot(options(box), columns(), box);
    new ResizeObserver(() => plot.root.isConnected && plot.setSize(size(box))).observe(box);
  }

  const zoomed = () => {
    const all = plot.data[0];
    return plot.scales.x.min > all[0] || plot.scales.x.max < all[all.length - 1];
  };

  function update() {
    const { min, max } = plot.scales.x;
    const kept = zoomed();
    plot.setData(columns(), !kept);
    if (kept) plot.setScale("x", { min, max });
  }

  function move(step) {
    const times = found.forecast.t ? plot.data[0] : found.t;
    let index = plot.cursor.idx;
    if (index === null || index === undefined || index >= times.length) index = step > 0 ? -1 : times.length;
    do index += step; while (index > 0 && index < times.length - 1 && !told(index));
    index = Math.min(times.length - 1, Math.max(0, index));
    const { min, max } = plot.scales.x;
    const outside = times[index] < min ? times[index] - min : times[index] > max ? times[index] - max : 0;
    if (outside) plot.setScale("x", { min: min + outside, max: max + outside });
    plot.setCursor({ left: plot.valToPos(times[index], "x"), top: 10 });
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "chart-plot" || !plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -1e6, End: 1e6 };
    document.getElementById("chart-readout").setAttribute("aria-live", "polite");
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === "Escape" && zoomed()) plot.setScale("x", { min: plot.data[0][0], max: plot.data[0].at(-1) });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  const repaint = () => { if (plot) { readColours(); plot.redraw(false); } };
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  document.addEventListener("htmx:afterSettle", () => {
    const box = document.getElementById("chart-plot");
    if (box && !box.firstElementChild?.classList.contains("uplot")) loadChart();
  });
  loadChart();
})();
