/* The alerts' page, which webhooks.js keeps fresh: after a test or "Send again" it shows at once what came of it. */
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt?.matches?.(".al-ch form, .al-lost form")) document.body.dispatchEvent(new CustomEvent("resync"));
});
