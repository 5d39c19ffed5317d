/* The alerts' page asks for what changed as soon as an alert or a message did; webhooks.js does the asking. */
(() => {
  "use strict";
  function attach(source) {
    if (source.alertsAttached) return;
    source.alertsAttached = true;
    source.addEventListener("alert", () => document.body.dispatchEvent(new CustomEvent("resync")));
  }
  if (window.wsmon?.live) attach(window.wsmon.live);
  document.addEventListener("htmx:sseOpen", (event) => attach(event.detail.source));
  /* After a test or "Send again" the page shows what came of it. */
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt?.matches?.(".al-ch form, .al-lost form")) document.body.dispatchEvent(new CustomEvent("resync"));
  });
})();
