/* Subscribing this browser to web push (https://www.w3.org/TR/push-api/). The key is wsmon's own public one. */
(() => {
  "use strict";
  const button = document.getElementById("push-add");
  const state = document.getElementById("push-state");
  if (!button) return;
  const say = (words) => { state.textContent = words; };

  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
  };

  const same = (subscription) => {
    const key = subscription?.options?.applicationServerKey;
    const ours = bytes(button.dataset.key);
    return Boolean(key) && new Uint8Array(key).every((value, place) => value === ours[place]);
  };

  async function look() {
    if (!("serviceWorker" in navigator) || !("PushManager" in window)) {
      say(window.isSecureContext ? "This browser cannot be told." : "It works by HTTPS only, and on localhost.");
      return;
    }
    if (Notification.permission === "denied") {
      say("Notifications of this site are blocked in the browser's settings.");
      return;
    }
    const registration = await navigator.serviceWorker.getRegistration(button.dataset.worker);
    const known = await registration?.pushManager.getSubscription();
    if (known && same(known)) say("This browser is told. Press again if nothing arrives.");
    else say("This browser is not told yet.");
    button.hidden = false;
  }

  async function add() {
    const registration = await navigator.serviceWorker.register(button.dataset.worker);
    if (!registration.active) {
      const worker = registration.installing || registration.waiting;
      await new Promise((done) => worker.addEventListener("statechange", () => { if (worker.state === "activated") done(); }));
    }
    const before = await registration.pushManager.getSubscription();
    if (before && !same(before)) await before.unsubscribe();
    const subscription = await registration.pushManager.subscribe({
      userVisibleOnly: true, applicationServerKey: bytes(button.dataset.key),
    });
    const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
    const answer = await fetch(button.dataset.add, {
      method: "POST", body: JSON.stringify(subscription),
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
    });
    if (!answer.ok) throw new Error(`wsmon answered ${answer.status}`);
    location.reload();
  }

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await add();
    } catch (problem) {
      say(Notification.permission === "denied" ? "You did not allow notifications." : `It did not work: ${problem.message}`);
    }
    button.disabled = false;
  });
  look().catch((problem) => say(`It cannot be found out: ${problem.message}`));
})();
