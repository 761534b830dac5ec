// Fetches a page and puts parts of it in the place of the same parts here. The page's own policy forbids that anything
// in them is run; what had the focus keeps it.

export async function swap(address, ids, signal) {
  const answer = await fetch(address, { headers: { accept: "text/html" }, signal });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = ids.map((id) => [document.getElementById(id), fresh.getElementById(id)]);
  if (found.some(([old, next]) => !old || !next)) return location.assign(address); // another page: the entrance, say
  for (const [old, next] of found) replace(old, next);
}

function replace(old, next) {
  const held = old.contains(document.activeElement) ? trace(document.activeElement) : null;
  const scrolled = [...old.querySelectorAll("[tabindex='0']")].map((box) => [box.scrollTop, box.scrollLeft]);
  old.replaceChildren(...document.adoptNode(next).childNodes);
  old.querySelectorAll("[tabindex='0']").forEach((box, place) => {
    if (scrolled[place]) [box.scrollTop, box.scrollLeft] = scrolled[place];
  });
  if (held) [...old.querySelectorAll("a, input, summary, [tabindex='0']")].find((it) => trace(it) === held)?.focus({ preventScroll: true });
}

const trace = (it) => [it.tagName, it.name, it.value, it.getAttribute("href"), it.getAttribute("aria-label"), it.getAttribute("aria-labelledby")].join("\n");
