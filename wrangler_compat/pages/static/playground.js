// The playground: the form to inputs, the inputs to an answer that comes word by word, and to code.
import { ask } from "./ask.js";
import { Mistake, readFields } from "./inputs.js";
import { Meter } from "./meter.js";
import { filled } from "./notation.js";
import { Speech } from "./speech.js";

const at = (id) => document.getElementById(id);
const form = at("playground");
const speech = new Speech(at("spoken"));
const meter = new Meter(at("numbers"));
const history = []; // the chat so far: {role, content}
let running = null; // the AbortController of the request that is under way

const mode = () => form.querySelector("[name=mode]:checked")?.value ?? form.querySelector(".talk .mode").dataset.mode;
const modeBox = () => form.querySelector(`.talk .mode[data-mode="${CSS.escape(mode())}"]`);
const chats = () => modeBox().dataset.chat === "yes";
const streams = () => modeBox().dataset.streams === "yes";

function inputs() {
  const given = readFields(mode());
  if (!chats()) return given;
  const system = at("system").value.trim();
  const message = at("message").value.trim();
  const told = system ? [{ role: "system", content: system }] : [];
  // With nothing new to say, the code shows what was asked last.
  const turns = message ? [...history, { role: "user", content: message }] : history.slice(0, -1);
  return { messages: [...told, ...turns], ...given };
}

function showMode() {
  for (const box of form.querySelectorAll(".mode")) box.hidden = box.dataset.mode !== mode();
  at("stream-field").hidden = !streams();
  at("clear").hidden = !chats();
  showAnswerBox(false);
  showCode();
}

function showCode() {
  let now;
  try {
    now = inputs();
  } catch (fault) {
    if (fault instanceof Mistake) return; // half-typed JSON; the code follows once it is whole
    throw fault;
  }
  const language = form.querySelector("[name=language]:checked").value;
  for (const box of form.querySelectorAll(".snippet")) {
    box.hidden = box.dataset.language !== language;
    box.querySelector("code").textContent = filled(box.dataset.template, box.dataset.notation, now);
  }
}

function showError(text) {
  at("error").hidden = !text;
  at("error").textContent = text;
}

function showAnswerBox(shown) {
  at("answer-box").hidden = !shown;
}

function addTurn(role, text) {
  at("turns").querySelector(".empty")?.remove();
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  const who = Object.assign(document.createElement("span"), { className: "who", textContent: role === "user" ? "You" : "Model" });
  const words = Object.assign(document.createElement("span"), { className: "words", textContent: text });
  turn.append(who, words);
  at("turns").append(turn);
  at("turns").scrollTop = at("turns").scrollHeight;
  return { box: turn, words };
}

function answerPlace() {
  if (chats()) return addTurn("assistant", "");
  showAnswerBox(true);
  at("answer").textContent = "";
  return { box: at("answer"), words: at("answer") };
}

function setRunning(controller) {
  running = controller;
  at("send").disabled = controller !== null;
  at("stop").disabled = controller === null;
}

async function send() {
  if (running) return;
  showError("");
  let asked;
  try {
    asked = inputs();
  } catch (fault) {
    if (!(fault instanceof Mistake)) throw fault;
    return showError(fault.message);
  }
  if (chats() && !at("message").value.trim()) {
    at("message").focus();
    return showError("Write a message first.");
  }
  const request = streams() && at("stream").checked ? { ...asked, stream: true } : asked;
  const inChat = chats();
  const message = at("message")?.value.trim();
  const turn = inChat ? addTurn("user", message) : null;
  const place = answerPlace();
  const said = await run(request, place);
  if (!inChat) return;
  if (said === null) { // refused before a word: nothing was said, and the message can be mended
    turn.box.remove();
    place.box.remove();
    return;
  }
  history.push({ role: "user", content: message }, { role: "assistant", content: said });
  if (at("message").value.trim() === message) at("message").value = "";
  showCode();
}

// The answer's text, whole or as far as it came; null where nothing came.
async function run(request, place) {
  const controller = new AbortController();
  let text = "";
  const say = (piece) => {
    text += piece;
    const near = at("turns") && at("turns").scrollHeight - at("turns").scrollTop - at("turns").clientHeight < 60;
    place.words.textContent = text;
    if (near) at("turns").scrollTop = at("turns").scrollHeight;
    speech.add(piece);
    meter.piece();
  };
  setRunning(controller);
  speech.begin();
  meter.begin();
  at("said").textContent = "Waiting for the answer.";
  place.box.classList.add("coming");
  let usage = {};
  try {
    await ask(form.dataset.run, request, controller.signal, {
      text: say,
      value: (value) => say(typeof value === "string" ? value : JSON.stringify(value, null, 2)),
      usage: (told) => { usage = told; },
    });
    meter.show(usage, usage.neurons);
    at("said").textContent = "The answer is complete.";
  } catch (fault) {
    if (fault.name !== "AbortError") showError(fault.message);
    at("said").textContent = fault.name === "AbortError" ? "Stopped." : "";
    if (!text) return null;
  } finally {
    speech.end();
    place.box.classList.remove("coming");
    setRunning(null);
  }
  return text;
}

function clear() {
  running?.abort();
  history.length = 0;
  at("turns").replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: "Nothing said yet." }));
  showError("");
  showCode();
  at("message").focus();
}

if (form) {
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  form.addEventListener("input", (event) => (event.target.name === "mode" ? showMode() : showCode()));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
  at("stop").addEventListener("click", () => { running?.abort(); at("send").focus(); });
  at("clear").addEventListener("click", clear);
  at("reset").addEventListener("click", () => {
    for (const box of form.querySelectorAll(".side [data-name]")) reset(box);
    at("stream").checked = true;
    showCode();
  });
  showMode();
}

function reset(box) {
  if (box.dataset.kind === "boolean") box.checked = box.defaultChecked;
  else if (box.tagName === "SELECT") box.value = [...box.options].find((it) => it.defaultSelected)?.value ?? box.options[0].value;
  else box.value = box.defaultValue;
}
