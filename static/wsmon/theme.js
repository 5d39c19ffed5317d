/* Sets the chosen theme before the first paint; "system" means no attribute at all. */
(() => {
  "use strict";
  const root = document.documentElement;
  let chosen = "system";
  try {
    chosen = localStorage.getItem("wsmon.theme") || "system";
  } catch {
    /* storage may be forbidden: the system decides */
  }
  if (chosen === "light" || chosen === "dark") root.dataset.bsTheme = chosen;
  root.classList.add("js");
})();
