// Makes the list follow the form at once. The address holds the state; without this script the form's button sends it.
import { swap } from "./swap.js";

const form = document.getElementById("browse");
const filters = document.getElementById("filters");
const narrow = matchMedia("(max-width: 55.99rem)");
form.querySelector("[type=submit]").hidden = true; // typing does it
let latest = new AbortController();
let waiting;

const setFolded = () => { filters.open = !narrow.matches; };
setFolded();
narrow.addEventListener("change", setFolded);

function address() {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()));
  return form.getAttribute("action") + (query.size ? `?${query}` : "");
}

async function follow(target) {
  latest.abort();
  latest = new AbortController();
  try {
    await swap(target, ["facets", "results"], latest.signal);
    document.getElementById("said").textContent = document.getElementById("count").textContent;
  } catch (fault) {
    if (fault.name !== "AbortError") location.assign(target);
  }
}

function changed() {
  const target = address();
  history.replaceState(null, "", target);
  follow(target);
}

form.addEventListener("input", (event) => {
  clearTimeout(waiting);
  waiting = setTimeout(changed, event.target.type === "search" ? 150 : 0);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(waiting);
  changed();
});
