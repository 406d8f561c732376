"use strict";
// Whatever the model, the proxy or the reader says stands in text nodes only.
// Addresses are relative to the page, so that it works behind any prefix; no key is known here.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MOST_TURNS = 60;      // messages and answers that stay on the page
const MOST_SENT = 20;       // messages that are sent as what was said before
const MOST_DETAIL = 400;    // characters of a refusal that are shown
const BEATS = 90;           // bars of the picture of an answer
const FIRST_SPAN_MS = 1500; // what they show at first; it doubles as the answer goes on
const endpoint = new URL("v1/chat/completions", document.baseURI);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}
function time(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// The board: at this host, on another port.

let board = null;
{
  const [scheme, port] = document.documentElement.dataset.board.split(":");
  if (port) {
    board = new URL("/", location.href);
    board.search = "";
    board.protocol = scheme;
    board.port = port;
    $("board").href = board.href;
    $("board").hidden = false;
  }
}

// What becomes of an answer, in the words that stand below it.

const ENDS = {
  waiting: ["waiting", "for the first word"],
  streaming: ["streaming", "each word passes the proxy in the moment in which it comes"],
  ended: ["ended", "with the sign of its end"],
  stopped: ["stopped", "by you: the proxy has closed its connection to the model, which says no more"],
  broken: ["broke off", "the connection ended inside the answer: the model broke it, or somebody pressed Stop on the board"],
  truncated: ["truncated", "the response looks whole, but the sign of its end is missing"],
  empty: ["empty", "status 200, and not a word"],
  failed: ["failed", "with status 200: "],
  refused: ["refused", ""],
};

// The picture of an answer: when its words came, in so many bars, however long it takes.

class Beats {
  constructor() {
    this.span = FIRST_SPAN_MS;
    this.bars = new Array(BEATS).fill(0);
    this.picture = document.createElementNS(SVG, "svg");
    this.picture.setAttribute("viewBox", `0 0 ${BEATS} 22`);
    this.picture.setAttribute("preserveAspectRatio", "none");
    this.picture.setAttribute("role", "img");
    this.rects = this.bars.map((_, index) => {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("x", index + 0.15);
      rect.setAttribute("width", 0.7);
      rect.setAttribute("height", 0);
      this.picture.append(rect);
      return rect;
    });
    this.draw(0);
  }

  reach(ms) {
    while (ms >= this.span) {
      this.span *= 2;
      this.bars = this.bars.map((_, index) => (this.bars[2 * index] ?? 0) + (this.bars[2 * index + 1] ?? 0));
    }
  }

  add(ms) {
    this.reach(ms);
    this.bars[Math.floor((ms / this.span) * BEATS)] += 1;
  }

  draw(ms) {
    this.reach(ms);
    const most = Math.max(1, ...this.bars);
    this.bars.forEach((count, index) => {
      const height = count ? Math.max(3, (count / most) * 20) : 0;
      this.rects[index].setAttribute("height", height);
      this.rects[index].setAttribute("y", 22 - height);
    });
    this.picture.setAttribute("aria-label", `When its words came, over ${time(this.span)}`);
  }
}

// One answer on the page.

class Answer {
  constructor() {
    // By this word in what was asked for the board finds the row.
    this.mark = `play-${[...crypto.getRandomValues(new Uint8Array(6))].map((each) => each.toString(16).padStart(2, "0")).join("")}`;
    this.began = performance.now();
    this.first = this.last = null;
    this.words = 0;
    this.tokens = null;
    this.beats = new Beats();
    this.said = document.createTextNode("");
    this.figures = {};
    const list = make("dl");
    for (const [name, title] of [["first", "first word"], ["tokens", "tokens"], ["rate", "tokens a second"], ["took", "took"]]) {
      this.figures[name] = make("dd", "", "–");
      this.figures[name].dataset.figure = name;
      list.append(make("div", "", make("dt", "", title), this.figures[name]));
    }
    this.how = make("p", "how");
    const footer = make("footer", "", this.how);
    if (board) {
      const link = make("a", "row", "Its row on the board ↗");
      link.href = new URL(`#find=${this.mark}`, board).href;
      link.target = "_blank";
      link.rel = "noopener";
      footer.append(link);
    }
    const text = make("p", "said");
    text.append(this.said);
    this.element = make("article", "answer", text, this.beats.picture, list, footer);
    this.element.setAttribute("aria-label", "Answer");
    this.become("waiting");
    this.timer = setInterval(() => this.draw(), 100);
    this.draw();
  }

  become(state, more = "") {
    this.state = this.element.dataset.state = state;
    const [name, words] = ENDS[state];
    this.how.replaceChildren(make("b", "", name), words + more);
  }

  word(word) {
    const now = performance.now() - this.began;
    if (this.first === null) {
      this.first = now;
      this.become("streaming");
    }
    this.last = now;
    this.words += 1;
    this.beats.add(now);
    const stay = atEnd();
    this.said.appendData(word);
    if (stay) toEnd();
  }

  draw(ms = performance.now() - this.began) {
    const { first, tokens, rate, took } = this.figures;
    if (this.first !== null) first.textContent = time(this.first);
    if (this.words) tokens.textContent = number.format(this.tokens ?? this.words);
    if (this.words > 1 && this.last > this.first) {
      rate.textContent = number.format(((this.words - 1) * 1000) / (this.last - this.first));
    }
    took.textContent = time(ms);
    this.beats.draw(ms);
  }

  end(state, more = "") {
    clearInterval(this.timer);
    this.draw();
    const stay = atEnd();
    this.become(state, more);
    if (stay) toEnd();
    $("state").textContent = this.how.innerText;
  }
}

function atEnd() {
  const talk = $("talk");
  return talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
}
function toEnd() {
  $("talk").scrollTop = $("talk").scrollHeight;
}
function put(element) {
  $("hello").hidden = true;
  $("talk").append(element);
  const turns = $("talk").querySelectorAll(".user, .answer");
  for (let index = 0; index < turns.length - MOST_TURNS; index += 1) turns[index].remove();
  toEnd();
}

// Yield the data of each server-sent event; a chunk may end anywhere, also between CR and LF.
async function* events(body) {
  let rest = "", data = [];
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  }
}

const messages = [];
let abort = null;

function behaviour() {
  const found = {};
  for (const [name, value] of new FormData($("model"))) {
    if (name === "fault") { if (value) found.fault = value; } else found[name] = Number(value);
  }
  return found;
}

async function detail(response) {
  const text = await response.text();
  try {
    const said = JSON.parse(text);
    return said.error?.message ?? said.detail ?? said.title ?? text;
  } catch {
    return text;
  }
}

// Returns: what became of the answer, and what else there is to say.
async function stream(answer, message) {
  const url = new URL(endpoint);
  url.searchParams.set("page", answer.mark);
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      model: "demo", messages: messages.slice(-MOST_SENT), stream: true, stream_options: { include_usage: true }, ...behaviour(),
    }),
    signal: abort.signal,
  });
  if (!response.ok) {
    const why = (await detail(response)).slice(0, MOST_DETAIL);
    return ["refused", `${response.status}: ${why}`];
  }
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return [message.content ? "ended" : "empty"];
    const chunk = JSON.parse(data);
    if (chunk.error) return ["failed", String(chunk.error.message).slice(0, MOST_DETAIL)];
    const word = chunk.choices?.[0]?.delta?.content;
    if (word) {
      message.content += word;
      answer.word(word);
    }
    if (chunk.usage) answer.tokens = chunk.usage.completion_tokens;
  }
  return [message.content ? "truncated" : "empty"];
}

async function say(content) {
  if (abort) return;
  abort = new AbortController();
  messages.push({ role: "user", content });
  put(make("p", "user", content));
  const answer = new Answer();
  const message = { role: "assistant", content: "" };
  put(answer.element);
  $("state").textContent = "The answer is on its way.";
  $("send").disabled = true;
  $("stop").disabled = false;
  for (const button of $("scenes").children) button.disabled = true;
  try {
    answer.end(...await stream(answer, message));
  } catch (error) {
    if (error.name === "AbortError") answer.end("stopped");
    else answer.end("broken");
  } finally {
    if (message.content) messages.push(message);
    messages.splice(0, messages.length - MOST_SENT);
    abort = null;
    $("send").disabled = false;
    $("stop").disabled = true;
    for (const button of $("scenes").children) button.disabled = false;
  }
}

// Controls.

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = $("text").value.trim();
  if (!content || abort) return;
  $("text").value = "";
  say(content);
});
$("stop").addEventListener("click", () => abort?.abort());
addEventListener("keydown", (event) => {
  if (event.key === "Escape") abort?.abort();
});
$("model").addEventListener("submit", (event) => event.preventDefault());

const SCENES = [
  ["An answer", "word by word, as a model says it", {}, "Hello! What are you?"],
  ["A long, slow one", "time to stop it, here or on the board", { interval_ms: "400", words: "200" }, "Take your time."],
  ["A late first word", "three seconds of thinking", { first_byte_ms: "3000" }, "Think before you speak."],
  ["It breaks off", "the model’s connection is lost", { fault: "break" }, "Break off in the middle."],
  ["It is cut short", "and looks whole: a quiet failure", { fault: "truncate" }, "Leave out the end."],
  ["It says nothing", "status 200, no event", { fault: "empty" }, "Say nothing."],
  ["An error inside", "of a response with status 200", { fault: "error" }, "Fail, but politely."],
  ["It falls silent", "until somebody ends it", { fault: "stall" }, "Stop talking, and stay."],
];
for (const [title, words, settings, content] of SCENES) {
  const button = make("button", "", make("b", "", title), make("span", "", words));
  button.type = "button";
  button.addEventListener("click", () => {
    $("model").reset();
    for (const [name, value] of Object.entries(settings)) $("model").elements[name].value = value;
    say(content);
  });
  $("scenes").append(button);
}

const wide = matchMedia("(min-width: 52rem)");
const fold = () => { $("tuning").open = wide.matches; };
wide.addEventListener("change", fold);
fold();
if (wide.matches) $("text").focus();

const themes = ["", "light", "dark"];
function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").ariaLabel = $("theme").title = `Colours: ${theme || "as the system"}`;
}
let theme = localStorage.getItem("theme") ?? "";
dress(theme);
$("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem("theme", theme);
  dress(theme);
});
