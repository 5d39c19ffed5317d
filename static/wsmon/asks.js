/* Panels that ask before an action. A link with data-asks="<box>" is fetched by htmx into that box ([data-panel]);
   without JavaScript it leads to a page that asks the same. Opening focuses the first field; Esc, the quiet
   button ([data-keep]) and the link itself close it, and the focus returns to the link. */
(() => {
  "use strict";
  const opener = (panel) => document.getElementById(panel.dataset.asked);

  function mark(box) {
    const panel = box.querySelector(".ws-confirm-panel");
    for (const link of document.querySelectorAll(`[data-asks="${box.id}"]`)) {
      link.setAttribute("aria-expanded", String(Boolean(panel) && link.id === panel.dataset.asked));
    }
  }

  function close(panel, focus = true) {
    const link = opener(panel);
    const box = panel.closest("[data-panel]");
    box.replaceChildren();
    mark(box);
    if (focus) link?.focus();
    document.dispatchEvent(new CustomEvent("wsmon:closed", { detail: { box } }));
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-asks], [data-keep]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const box = link.dataset.asks && document.getElementById(link.dataset.asks);
    const panel = box ? box.querySelector(".ws-confirm-panel") : link.closest("[data-panel] .ws-confirm-panel");
    if (!panel || (box && panel.dataset.asked !== link.id)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    close(panel);
  }, true);

  document.addEventListener("keydown", (event) => {
    const panel = event.key === "Escape" && event.target.closest?.("[data-panel] .ws-confirm-panel");
    if (!panel || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    close(panel);
  }, true);

  document.querySelectorAll("[data-panel]").forEach(mark);
  document.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target;
    if (target?.matches?.("[data-panel]")) {
      mark(target);
      (target.querySelector("[aria-invalid=true]") || target.querySelector("input:not([type=hidden]), select, textarea, .wh-revealed"))?.focus();
    } else target?.querySelectorAll?.("[data-panel]").forEach(mark);
  });
})();
