/* The service worker that shows what wsmon pushes. It does nothing else: it answers no requests. */
"use strict";
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let told = {};
  try { told = event.data ? event.data.json() : {}; } catch { /* not ours: say so without its words */ }
  const title = typeof told.title === "string" && told.title ? told.title : "wsmon has something to tell";
  event.waitUntil(self.registration.showNotification(title, {
    body: typeof told.body === "string" ? told.body : "",
    tag: typeof told.tag === "string" ? told.tag : undefined,
    renotify: typeof told.tag === "string",
    requireInteraction: told.severity === "critical",
    data: { url: typeof told.url === "string" ? told.url : "/alerts/" },
  }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow(event.notification.data.url));
});
