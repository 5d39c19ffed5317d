/* Keyboard shortcuts. Off in text fields and dialogs, with modifiers, and when switched off (WCAG 2.1.4). */
(() => {
  "use strict";
  const typing = (target) =>
    target.isContentEditable || target.matches?.("input:not([type=radio]):not([type=checkbox]), select, textarea");
  let pending = "";
  let pendingTimer;

  const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  const current = () => document.querySelector("[data-row].is-cursor");

  function move(step) {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(current());
    const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
    current()?.classList.remove("is-cursor");
    next.classList.add("is-cursor");
    next.scrollIntoView({ block: "nearest" });
    next.querySelector("a")?.focus({ preventScroll: true });
  }

  function find() {
    const field = document.getElementById("q");
    if (field) { field.focus(); field.select(); } else location.assign("/#q");
  }

  function density() {
    const all = [...document.querySelectorAll("#density a")];
    if (!all.length) return;
    const at = all.findIndex((link) => link.hasAttribute("aria-current"));
    all[(at + 1) % all.length].click();
  }

  /* What stands in the marked row, else the first on the page that can be used. */
  function press(selector) {
    const found = (root) => [...(root?.querySelectorAll(selector) || [])].find((item) => item.offsetParent !== null);
    (found(current()) || found(document))?.click();
  }

  const actions = {
    "/": find,
    j: () => move(1),
    k: () => move(-1),
    w: () => location.assign("/wall/"),
    ".": density,
    "?": () => document.getElementById("keys")?.showModal(),
    "g o": () => location.assign("/"),
    "g b": () => location.assign("/breakers/"),
    "g c": () => location.assign("/changes/"),
    "g w": () => location.assign("/webhooks/"),
    "g f": () => location.assign("/webhooks/failures/"),
    x: () => current()?.querySelector("input[type=checkbox]")?.click(),
    r: () => press("[data-key=r]"),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (window.wsmon?.store?.get("keys") === "off") return;
    if (event.key === "Escape") {
      if (typing(event.target)) event.target.blur();
      else if (document.body.classList.contains("is-wall")) location.assign("/");
      else current()?.classList.remove("is-cursor");
      return;
    }
    if (typing(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter") {
      if (event.target === document.body) current()?.querySelector("a")?.click();
      return;
    }
    const key = pending ? `${pending} ${event.key}` : event.key;
    clearTimeout(pendingTimer);
    if (!pending && event.key === "g") {
      pending = "g";
      pendingTimer = setTimeout(() => { pending = ""; }, 1200);
      return;
    }
    pending = "";
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  });
})();
