// Keeps the page current: sections come from the server as HTML that it has escaped; the nodes that differ are changed in
// place, so that focus, selection and open details stay. Nothing is stored, and nobody else is asked.
"use strict";

const QUIET_SECONDS = 20; // without a sign of the server
const RETRY_SECONDS_MAX = 15;
const SPOKEN_SECONDS = 30; // between two announcements to a screen reader

const connection = document.getElementById("connection");
const spoken = document.getElementById("spoken");
let source = null;
let timer = 0;
let heardAt = Date.now();
let retrySeconds = 1;
let spokenAt = 0;

function say(state, text) {
  if (connection.dataset.state !== state) {
    connection.dataset.state = state;
    connection.textContent = text;
  }
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const have = [...old.childNodes];
  const want = [...fresh.childNodes];
  want.forEach((node, i) => {
    if (i < have.length) morph(have[i], node);
    else old.append(document.importNode(node, true));
  });
  have.slice(want.length).forEach((node) => node.remove());
}

function show(name, html) {
  const section = document.getElementById(name);
  if (!section) return;
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  morphChildren(section, fresh);
}

function announce() {
  if (Date.now() - spokenAt < SPOKEN_SECONDS * 1000) return;
  const lines = [...document.querySelectorAll("#campaigns article")].map((article) => {
    return article.dataset.campaign + ": " + article.querySelector("p").textContent;
  });
  const text = lines.join(" ");
  if (text && text !== spoken.textContent) {
    spoken.textContent = text;
    spokenAt = Date.now();
  }
}

function heard() {
  heardAt = Date.now();
  retrySeconds = 1;
  say("live", "Live");
}

function connect() {
  source = new EventSource("/events");
  source.addEventListener("section", (event) => {
    heard();
    const { name, html } = JSON.parse(event.data);
    show(name, html);
    if (name === "campaigns") announce();
  });
  source.addEventListener("beat", heard);
  source.onerror = lost;
}

function lost() {
  say("lost", "Connection lost, trying again");
  source.close(); // by ourselves, later and later: a browser gives up for good where a server refuses once
  clearTimeout(timer);
  timer = setTimeout(connect, retrySeconds * 1000);
  retrySeconds = Math.min(RETRY_SECONDS_MAX, retrySeconds * 2);
  heardAt = Date.now() + retrySeconds * 1000;
}

function rest() {
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

function begin() {
  say("connecting", "Connecting");
  heardAt = Date.now();
  connect();
}

setInterval(() => {
  if (source && Date.now() - heardAt > QUIET_SECONDS * 1000) lost();
}, 2000);

// A page that nobody sees asks nothing: a browser has six connections to a server, and the host has better things to do.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    if (!source) begin();
  } else {
    rest();
    say("static", "Resting while nobody looks");
  }
});

if (!document.hidden) begin();
