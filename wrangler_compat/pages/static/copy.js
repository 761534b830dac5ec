// The copy buttons, which are hidden where there is no script to answer them.
const said = document.getElementById("said");

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copies);
    const done = await write(source.textContent, source);
    button.textContent = done ? "Copied" : "Selected";
    if (said) said.textContent = done ? "Copied." : "Selected: press Ctrl+C to copy.";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// Only the loopback and https may write to the clipboard; elsewhere the text is selected for the reader's own Ctrl+C.
async function write(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return false;
  }
}
