"use strict";

// The key lives in this variable alone: it is stored nowhere, and in no address.
let key = "";

const server = decodeURIComponent(location.pathname.split("/")[2] || "");
const find = (id) => document.getElementById(id);

const STATES = {
  missing: ["Not filled in yet.", "bad"],
  ready: ["Stored and in use.", "good"],
  suspended: ["Waits for you: this server has moved since you stored the value.", "bad"],
};

// An account is connected, not filled in, and one that is there may be one that its server takes no more.
const ACCOUNT_STATES = {
  missing: (slot) => [slot.revision > 0 ? "No longer taken by this server: connect it again." : "Not connected yet.", "bad"],
  ready: () => ["Connected.", "good"],
};

const stateOf = (slot) =>
  slot.kind === "account" ? ACCOUNT_STATES[slot.state]?.(slot) : STATES[slot.state];

function say(text, kind) {
  find("message").textContent = text;
  find("message").className = kind || "";
}

async function ask(method, path, body) {
  const headers = { Authorization: "Bearer " + key };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch("/api/v1" + path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "same-origin",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.title || "The hub refused this.");
  return answer;
}

const slotsPath = () => "/users/me/servers/" + encodeURIComponent(server) + "/credentials";
const slotPath = (slot) => slotsPath() + "/" + encodeURIComponent(slot);

function make(name, text, properties) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  return Object.assign(element, properties || {});
}

function slotForm(slot) {
  const form = make("form", "", { autocomplete: "off" });
  const id = "value-" + slot.slot;
  const label = make("label", slot.state === "missing" ? "Value" : "New value", { htmlFor: id });
  const input = make("input", "", { id, type: "password", autocomplete: "off", required: true, spellcheck: false });
  const buttons = make("p");
  buttons.append(make("button", "Store", { type: "submit" }));
  if (slot.state === "suspended") {
    const confirm = () => ask("POST", slotPath(slot.slot) + "/confirm", seen(slot));
    buttons.append(button("Send the stored value there", slot, confirm));
  }
  if (slot.state !== "missing") buttons.append(removal(slot));
  form.append(label, input, buttons);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = input.value;
    input.value = "";
    change(slot, () => ask("PUT", slotPath(slot.slot), { value, ...seen(slot) }), slot.slot + " is stored.");
  });
  return form;
}

// A change says what was on the screen: if the server or the value is another by then, nothing happens.
const seen = (slot) => ({ revision: slot.revision, destination: slot.destination });

const removal = (slot) =>
  button("Remove", slot, () => ask("DELETE", slotPath(slot.slot) + "?revision=" + slot.revision));

function button(text, slot, act) {
  const element = make("button", text, { type: "button" });
  element.setAttribute("aria-label", text + ": " + slot.slot);
  element.addEventListener("click", () => change(slot, act, "Done: " + slot.slot + "."));
  return element;
}

// An account is connected where its server says; what comes back counts in this browser only.
function accountButtons(slot) {
  const buttons = make("p");
  const connect = make("button", slot.state === "ready" ? "Connect again" : "Connect", { type: "button" });
  connect.addEventListener("click", async () => {
    say("Asking the server …");
    try {
      const { url } = await ask("POST", "/users/me/servers/" + encodeURIComponent(server) + "/account");
      if (!/^https?:/.test(url)) throw new Error("The server sends people to a place that is no page.");
      location.assign(url);
    } catch (error) {
      say(error.message, "bad");
    }
  });
  buttons.append(connect);
  if (slot.revision > 0) buttons.append(removal(slot));
  return buttons;
}

function item(slot) {
  const [words, kind] = stateOf(slot) || [slot.state, ""];
  const element = make("li");
  const name = slot.kind === "account" ? "Your account there" : slot.slot;
  const title = make("h3", name, { id: "slot-" + slot.slot, tabIndex: -1 });
  const place = make("p", "It goes to ");
  place.append(make("code", slot.goes_to));
  element.append(title, make("p", words, { className: kind }), place);
  if (slot.kind === "account") element.append(accountButtons(slot));
  else if (slot.kind === "personal") element.append(slotForm(slot));
  else element.append(make("p", "Everybody shares this value; an admin sets it.", { className: "help" }));
  return element;
}

async function show() {
  const slots = await ask("GET", slotsPath());
  find("list").replaceChildren(...slots.map(item));
  find("slots").hidden = false;
  if (slots.length === 0) say("This server needs nothing from you.", "good");
}

async function change(slot, act, done) {
  try {
    await act();
    await show();
    say(done, "good");
    find("slot-" + slot.slot)?.focus();
  } catch (error) {
    await show().catch(() => {});
    say(error.message, "bad");
    find("slot-" + slot.slot)?.focus();
  }
}

find("server").textContent = server;

find("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  find("key").value = "";
  say("Asking the hub …");
  try {
    const person = await ask("GET", "/me");
    find("person").textContent = person.name;
    say("");
    await show();
    find("sign-in").hidden = true;
    find("list").querySelector("input")?.focus();
  } catch (error) {
    key = "";
    say(error.message, "bad");
    find("key").focus();
  }
});

find("forget").addEventListener("click", () => {
  key = "";
  find("list").replaceChildren();
  find("slots").hidden = true;
  find("sign-in").hidden = false;
  say("The key is forgotten.", "good");
  find("key").focus();
});
