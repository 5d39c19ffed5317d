/* Counts relative times on, once a second: <time data-ago> "3 s ago", <time data-for> "1 h 10 min", and
   deadlines down: <time data-in> "in 12 s", "due now". The words are the same as in monitoring/templatetags/wsmon_ui.py. */
(() => {
  "use strict";
  const wsmon = (window.wsmon = window.wsmon || {});
  const zone = document.documentElement.dataset.tz || "UTC";

  const coarse = (s) =>
    s >= 86400 ? `${Math.floor(s / 86400)} d`
    : s >= 3600 ? `${Math.floor(s / 3600)} h`
    : s >= 60 ? `${Math.floor(s / 60)} min`
    : `${s} s`;

  const span = (s) => {
    if (s < 3600) return coarse(s);
    const [big, small, sizes] = s < 86400 ? ["h", "min", [3600, 60]] : ["d", "h", [86400, 3600]];
    const whole = Math.floor(s / sizes[0]);
    const rest = Math.floor((s % sizes[0]) / sizes[1]);
    return rest && !(big === "d" && whole >= 7) ? `${whole} ${big} ${rest} ${small}` : `${whole} ${big}`;
  };

  let format;
  const absolute = (date) => {
    try {
      format = format || new Intl.DateTimeFormat("en-GB", {
        timeZone: zone, weekday: "short", day: "numeric", month: "short", year: "numeric",
        hour: "2-digit", minute: "2-digit", second: "2-digit",
      });
    } catch {
      return date.toISOString();
    }
    const utc = zone === "UTC" ? "" : `, ${date.toISOString().slice(11, 19)} UTC`;
    return `${format.format(date).replaceAll(",", "")} ${zone}${utc}`;
  };

  /* The server's clock is the one that counts; live.js sets the difference from its pings. */
  wsmon.skew = 0;
  wsmon.now = () => Date.now() + wsmon.skew;
  wsmon.coarse = coarse;

  wsmon.setTime = (element, epochSeconds) => {
    const date = new Date(epochSeconds * 1000);
    element.dateTime = date.toISOString();
    element.title = absolute(date);
    write(element);
  };

  wsmon.left = (when) => Math.max(0, Math.ceil((Number(when) - wsmon.now()) / 1000));

  function down(element) {
    const left = wsmon.left(Date.parse(element.dateTime));
    const text = left < 1 ? "due now" : `in ${left < 120 ? `${left} s` : span(left)}`;
    if (element.textContent !== text) element.textContent = text;
  }

  function write(element) {
    const seconds = Math.max(0, Math.floor((wsmon.now() - Date.parse(element.dateTime)) / 1000));
    const text = "for" in element.dataset ? span(seconds) : seconds < 1 ? "now" : `${coarse(seconds)} ago`;
    if (element.textContent !== text) element.textContent = text;
  }

  wsmon.writeTimes = () => {
    document.querySelectorAll("time[data-ago], time[data-for]").forEach(write);
    document.querySelectorAll("time[data-in]").forEach(down);
  };
  wsmon.writeTimes();
  document.addEventListener("htmx:afterSwap", () => wsmon.writeTimes());
  document.addEventListener("htmx:oobAfterSwap", () => wsmon.writeTimes());
  setInterval(() => {
    if (!document.hidden) wsmon.writeTimes();
  }, 1000);
})();
