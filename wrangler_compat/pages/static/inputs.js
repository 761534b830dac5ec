// What the form says, as the model's inputs: only what is set and isn't the default anyway.

export class Mistake extends Error {}

export function readFields(mode) {
  const inputs = {};
  for (const box of document.querySelectorAll(`.mode[data-mode="${CSS.escape(mode)}"] [data-name]`)) {
    const value = read(box);
    if (value !== undefined) inputs[box.dataset.name] = value;
  }
  return inputs;
}

function read(box) {
  const text = box.value;
  if (!box.required && isDefault(box)) return undefined;
  switch (box.dataset.kind) {
    case "boolean":
      return box.checked;
    case "integer":
    case "number":
      return text.trim() === "" ? undefined : Number(text); // out of range goes out too: the platform's words are the answer
    case "json":
      return text.trim() === "" ? undefined : parsed(box, text);
    case "loose":
      return text.trim() === "" ? undefined : listed(text);
    default:
      return text === "" ? undefined : text;
  }
}

function isDefault(box) {
  if (box.type === "checkbox") return box.checked === (box.dataset.default === "true");
  return box.tagName === "SELECT" ? box.selectedOptions[0]?.defaultSelected : box.value === box.defaultValue;
}

function listed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : text;
  } catch {
    return text;
  }
}

function parsed(box, text) {
  try {
    return JSON.parse(text);
  } catch (fault) {
    box.focus();
    throw new Mistake(`${box.dataset.name} is not JSON: ${fault.message}`);
  }
}
