// Refreshes what is running while the page is seen and the box is ticked.
import { swap } from "./swap.js";

const follow = document.getElementById("follow");
document.getElementById("follow-field").hidden = false;

async function refresh() {
  try {
    await swap(location.pathname, ["live"]);
  } catch {
    // roost was stopped, or restarts: the next turn will tell
  }
}

document.getElementById("refresh").addEventListener("click", (event) => { event.preventDefault(); refresh(); });

async function turn() {
  if (follow.checked && !document.hidden && getSelection().isCollapsed) await refresh();
  setTimeout(turn, 2000);
}
setTimeout(turn, 2000);
