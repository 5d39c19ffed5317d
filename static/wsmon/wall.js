/* The wall's clock, and keeping a television's screen awake where the browser allows it. */
(() => {
  "use strict";
  const zone = document.documentElement.dataset.tz || "UTC";
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const date = new Intl.DateTimeFormat("en-GB", { timeZone: zone, weekday: "long", day: "numeric", month: "long" });
  setInterval(() => {
    const now = new Date(window.wsmon.now());
    const time = document.querySelector("[data-clock]");
    if (!time) return;
    time.textContent = clock.format(now);
    time.dateTime = now.toISOString();
    document.querySelector("[data-date]").textContent = date.format(now).replace(",", "");
  }, 1000);
  navigator.wakeLock?.request("screen").catch(() => {});
})();
