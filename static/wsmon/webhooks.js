/* Pages whose parts follow what happens (webhooks, incidents, alerts): fresh values without a jump, "Show 7 new", selecting, and the focus after an action.

   When something changes (events "deliveries", "incident", "alert", "critical"), and every few seconds, the page asks for its own address with a
   header that makes the server send only what changes. Elements marked data-live are replaced in place when
   they differ; data-live-list gains and loses children. Whatever somebody is about to use stays as it is. */
(() => {
  "use strict";
  const wsmon = (window.wsmon = window.wsmon || {});
  const EVERY = 5000;
  const APART = 700; /* ms between two looks, however much comes */
  const list = () => document.getElementById("deliveries");
  const rows = () => [...document.querySelectorAll("#deliveries tr[data-live]")];

  /* Freshness ----------------------------------------------------------------------------------------- */
  let timer;
  let lookedAt = 0;
  let asking = false;
  let again = false;
  let pressing = false;

  function soon(wait) {
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(wait, lookedAt + APART - Date.now()));
  }

  function address() {
    const url = new URL(location.href);
    if (list()) {
      url.searchParams.set("ids", rows().map((row) => row.id.slice(2)).join(",") || "0");
      if (list().dataset.top) url.searchParams.set("top", list().dataset.top);
    }
    url.hash = "";
    return url;
  }

  async function look() {
    lookedAt = Date.now();
    if (document.hidden) return;
    if (asking) { again = true; return; }
    asking = true;
    const here = location.href;
    try {
      const answer = await fetch(address(), { headers: { "X-Wsmon-Live": "1" }, redirect: "error" });
      const html = answer.ok ? await answer.text() : "";
      /* Another page was chosen meanwhile, or a button is being pressed: this comes too late, or too early. */
      if (pressing) again = true;
      else if (html && location.href === here) merge(html);
    } catch {
      /* the header's indicator says that wsmon does not answer */
    } finally {
      asking = false;
      soon(again ? 0 : EVERY);
      again = false;
    }
  }

  /* Somebody types in it, or has asked for something that comes back to it. */
  const used = (element) => {
    const active = document.activeElement;
    return (element.contains(active) && active.matches("input:not([type=checkbox]), select, textarea"))
      || element.matches(".htmx-request") || element.querySelector(".htmx-request");
  };

  /* What is the browser's own in a part: the times that it counts on, and which panel is open. */
  const bare = (html) => html.replace(/ aria-expanded="[^"]*"/g, "").replace(/(<time[^>]*>)[^<]*/g, "$1");

  function put(old, fresh) {
    const html = fresh.innerHTML;
    if (used(old) || bare(old.innerHTML) === bare(html)) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...old.querySelectorAll("details[open][id]")].map((item) => item.id);
    const scrolled = [...old.querySelectorAll("pre.ws-code")].map((item) => [item.scrollTop, item.scrollLeft]);
    if (old.matches("tr")) cells(old, fresh);
    else old.innerHTML = html;
    for (const id of open) { const item = document.getElementById(id); if (item) item.open = true; }
    old.querySelectorAll("pre.ws-code").forEach((item, place) => {
      if (scrolled[place]) [item.scrollTop, item.scrollLeft] = scrolled[place];
    });
    for (const link of old.querySelectorAll("[data-asks]")) {
      const panel = document.getElementById(link.dataset.asks)?.querySelector(".ws-confirm-panel");
      link.setAttribute("aria-expanded", String(panel?.dataset.asked === link.id));
    }
    htmx.process(old);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  /* A row keeps its box, ticked or not. */
  function cells(old, fresh) {
    const from = old.querySelector(".wh-pick") ? 1 : 0;
    const news = [...fresh.children].slice(from);
    [...old.children].slice(from).forEach((cell, place) => {
      if (news[place] && cell.innerHTML !== news[place].innerHTML) cell.innerHTML = news[place].innerHTML;
    });
    old.toggleAttribute("data-waits", fresh.hasAttribute("data-waits"));
  }

  function merge(html) {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    for (const old of document.querySelectorAll("[data-live-list]")) {
      const fresh = parsed.getElementById(old.id);
      if (fresh) arrange(old, fresh);
    }
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = parsed.getElementById(old.id);
      if (fresh) put(old, fresh);
    }
    wsmon.writeTimes();
    count();
  }

  /* New ones come, those that are over go, unless somebody is at them; the order is the server's when nobody is. */
  function arrange(old, fresh) {
    const known = new Map([...old.children].map((item) => [item.id, item]));
    const wanted = [...fresh.children].map((item) => item.id);
    for (const item of [...old.children]) {
      if (!wanted.includes(item.id) && !item.querySelector(".ws-confirm-panel") && !item.contains(document.activeElement)) item.remove();
    }
    for (const item of fresh.children) {
      if (known.has(item.id)) continue;
      const copy = document.importNode(item, true);
      old.append(copy);
      htmx.process(copy);
    }
    if (old.matches(":hover") || old.contains(document.activeElement) || old.querySelector(".ws-confirm-panel")) return;
    const order = wanted.map((id) => document.getElementById(id)).filter((item) => item?.parentElement === old);
    if (order.some((item, place) => item !== old.children[place])) old.append(...order);
  }

  document.addEventListener("pointerdown", () => { pressing = true; }, true);
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, () => setTimeout(() => { pressing = false; }, 50), true);
  }

  function attach(source) {
    if (source.deliveriesAttached) return;
    source.deliveriesAttached = true;
    for (const name of ["deliveries", "breakers", "incident", "alert", "critical"]) source.addEventListener(name, () => soon(0));
  }
  if (wsmon.live) attach(wsmon.live);
  document.addEventListener("htmx:sseOpen", (event) => attach(event.detail.source));
  document.body.addEventListener("resync", () => soon(0));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(0); });
  document.addEventListener("wsmon:closed", () => soon(0));
  soon(EVERY);

  /* After an action its panel is gone: the focus returns to what opened it, and the page shows what it did. */
  let acted = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const form = event.detail.requestConfig?.elt;
    if (form?.matches?.(".wh-panel") && event.detail.xhr.status === 200) acted = form.dataset.asked;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (acted === null || event.detail.target?.querySelector?.(".ws-confirm-panel, .wh-revealed")) { acted = null; return; }
    const opener = document.getElementById(acted);
    acted = null;
    if (opener?.id.startsWith("bulk-")) clear();
    const next = opener && opener.offsetParent !== null ? opener : document.getElementById("main");
    next.focus({ preventScroll: true });
    soon(0);
  });

  /* The button that was pressed belongs to what is sent: "Show what would go" changes nothing. */
  document.addEventListener("htmx:configRequest", (event) => {
    const pressed = event.detail.triggeringEvent?.submitter;
    if (pressed?.name && !(pressed.name in event.detail.parameters)) event.detail.parameters[pressed.name] = pressed.value;
  });

  /* Selecting ------------------------------------------------------------------------------------------ */
  const boxes = () => [...document.querySelectorAll('#deliveries input[name="d"]')];
  const everything = () => document.querySelector("#pick [data-all]");
  let lastBox = null;

  function count() {
    const bar = document.getElementById("bulk");
    if (!bar) return;
    const ticked = boxes().filter((box) => box.checked);
    const all = !everything().disabled;
    for (const row of rows()) row.classList.toggle("sel", all || Boolean(row.querySelector("input:checked")));
    bar.classList.toggle("is-on", all || ticked.length > 0 || Boolean(bar.querySelector(".ws-confirm-panel")));
    const page = document.getElementById("pick-page");
    page.checked = ticked.length > 0 && ticked.length === boxes().length;
    page.indeterminate = ticked.length > 0 && !page.checked;
    const total = document.getElementById("bulk-all").dataset.total;
    const number = all ? total : String(ticked.length);
    const words = number === "1" ? "1 delivery" : `${number} deliveries`;
    const waiting = ticked.filter((box) => box.closest("tr").hasAttribute("data-waits")).length;
    write("bulk-n", all ? `All ${total} selected` : `${ticked.length} selected`);
    write("bulk-replay", `Replay ${words}…`);
    write("bulk-cancel", all ? "Cancel what waits…" : `Cancel ${waiting} waiting…`);
    document.getElementById("bulk-cancel").hidden = !all && !waiting;
    document.getElementById("bulk-all").hidden = all || Number(total) === ticked.length;
  }

  function write(id, text) {
    const element = document.getElementById(id);
    const label = element.querySelector("span") || element;
    if (label.textContent !== text) label.textContent = text;
  }

  function every(on) {
    everything().disabled = !on;
    document.querySelectorAll("#pick [data-filter]").forEach((field) => { field.disabled = !on; });
  }

  function clear() {
    if (!everything()) return;
    every(false);
    for (const box of boxes()) box.checked = false;
    count();
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "pick-page") for (const box of boxes()) box.checked = event.target.checked;
    else if (event.target.name !== "d") return;
    every(false);
    count();
  });

  document.addEventListener("click", (event) => {
    const box = event.target.closest?.('#deliveries input[name="d"]');
    if (box) {
      if (event.shiftKey && lastBox && lastBox !== box && lastBox.isConnected) {
        const all = boxes();
        const [from, to] = [all.indexOf(lastBox), all.indexOf(box)].sort((a, b) => a - b);
        for (const one of all.slice(from, to + 1)) one.checked = box.checked;
        count();
      }
      lastBox = box;
    }
    if (event.target.closest?.("#bulk-clear")) {
      document.getElementById("bulk-panel").replaceChildren();
      clear();
      document.getElementById("pick-page").focus();
    }
    if (event.target.closest?.("#bulk-all")) {
      every(true);
      count();
      document.getElementById("bulk-replay").focus();
    }
  });
  document.addEventListener("htmx:afterSwap", () => { count(); });
  document.addEventListener("wsmon:closed", count);
  count();

  /* A chosen page or filter leaves the menu; a form does not send what nobody filled in. */
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "get") return;
    for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
  });
  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll(".wh-add form [disabled], form.ws-search [disabled]")) field.disabled = false;
    count();
  });
})();
