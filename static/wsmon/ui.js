/* Menus, theme, copy buttons, toasts, dialogs: what the pages' chrome needs. */
(() => {
  "use strict";
  const root = document.documentElement;
  const store = {
    get(key) { try { return localStorage.getItem(`wsmon.${key}`); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(`wsmon.${key}`, value); } catch { /* forbidden */ } },
  };
  (window.wsmon = window.wsmon || {}).store = store;

  const chosen = store.get("theme") || "system";
  const radio = document.getElementById(`theme-${chosen}`);
  if (radio) radio.checked = true;
  const keysOn = document.getElementById("keys-on");
  if (keysOn) keysOn.checked = store.get("keys") !== "off";

  document.addEventListener("change", (event) => {
    if (event.target.name === "theme" && event.target.closest("[data-theme-choice]")) {
      store.set("theme", event.target.value);
      if (event.target.value === "system") delete root.dataset.bsTheme;
      else root.dataset.bsTheme = event.target.value;
    }
    if (event.target.id === "keys-on") store.set("keys", event.target.checked ? "on" : "off");
  });

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.ws-menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.open) document.getElementById(button.dataset.open)?.showModal();
    if ("dismiss" in button.dataset) button.closest(".ws-toast")?.remove();
    if (button.dataset.copy) copy(button, document.querySelector(button.dataset.copy));
    if ("copyLink" in button.dataset) copy(button, null);
    if ("print" in button.dataset) window.print();
  });

  /* Esc closes menus and confirm panels, and focus returns to what opened them. */
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    const inside = event.target.closest?.("details.ws-menu[open], details.ws-confirm[open]");
    const open = inside || document.querySelector("details.ws-menu[open]");
    if (!open) return;
    open.open = false;
    open.querySelector("summary").focus();
    event.stopImmediatePropagation();
  });

  /* The quiet button of a confirm panel closes it; opening it focuses its first field. */
  document.addEventListener("click", (event) => {
    const keep = event.target.closest("[data-close]");
    if (!keep) return;
    const details = keep.closest("details");
    details.open = false;
    details.querySelector("summary").focus();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.ws-confirm") && event.target.open) {
      event.target.querySelector("input:not([type=hidden]), select, textarea, button")?.focus();
    }
  }, true);

  /* An element's text, or this page's address. */
  async function copy(button, source) {
    const label = button.querySelector("span") || button;
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(source ? source.textContent : location.href);
      label.textContent = "Copied";
    } catch {
      label.textContent = source ? "Selected: press Ctrl-C" : "Copy it from the address bar";
      if (source) {
        const range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
      }
    }
    setTimeout(() => { label.textContent = before; }, 3000);
  }

  /* A part that is taken away while it asks for itself leaves its answer nowhere to go. */
  document.addEventListener("htmx:beforeCleanupElement", (event) => {
    const gone = event.target;
    if (!gone.classList?.contains("htmx-request")) return;
    gone.addEventListener("htmx:beforeSwap", (late) => { late.detail.shouldSwap = false; });
  });

  /* A failed request is said, never silent. Answers that explain themselves (409, 422, 429) are swapped in:
     see htmx-config in base.html. */
  const failed = (event) => {
    const status = event.detail.xhr?.status;
    const words = status === 403 ? "You may not do this, or your session ended"
      : status === 404 ? "This no longer exists; reload the page"
      : status ? `wsmon answered ${status}` : "wsmon did not answer";
    wsmon.toast("critical", words, "Nothing was changed on this page.");
  };
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:timeout", failed);

  /* A toast tells what happened and goes; the page shows it too. service.js does this on its page. */
  if (!document.getElementById("svc-live")) {
    document.addEventListener("htmx:oobAfterSwap", (event) => {
      if (event.detail.target?.id !== "toasts") return;
      const toasts = [...event.detail.target.children];
      toasts.slice(0, -1).forEach((toast) => toast.remove());
      setTimeout(() => toasts.at(-1)?.remove(), 8000);
    });
  }

  window.wsmon.toast = (status, title, text) => {
    const box = document.getElementById("toasts");
    if (!box) return;
    const toast = document.createElement("div");
    toast.className = "ws-toast";
    toast.dataset.s = status;
    const words = document.createElement("div");
    const head = document.createElement("div");
    head.className = "t";
    head.textContent = title;
    const rest = document.createElement("span");
    rest.className = "ink2";
    rest.textContent = text || "";
    words.append(head, rest);
    toast.append(words);
    box.replaceChildren(toast);
    setTimeout(() => toast.remove(), 8000);
  };
})();
