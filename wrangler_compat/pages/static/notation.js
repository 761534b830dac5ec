// Writes inputs into a snippet's template as its language writes values: the rule of wrangler_compat/pages/snippets.py.

const HOLE = "__INPUTS__";
const IN_OPENAI = new Set(["messages", "temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "max_tokens"]);

export function filled(template, notation, inputs) {
  return template.split(HOLE).join(WRITERS[notation](inputs));
}

const WRITERS = {
  shell: (inputs) => `'${JSON.stringify(inputs).replaceAll("'", `'"'"'`)}'`,
  javascript: (inputs) => JSON.stringify(inputs, null, 2).replaceAll("\n", "\n    "),
  python: literal,
  keywords,
};

function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, entry]) => `${JSON.stringify(name)}: ${literal(entry)}`).join(", ")}}`;
}

function keywords(inputs) {
  const { prompt, ...rest } = inputs;
  const given = prompt === undefined || rest.messages ? inputs : { messages: [{ role: "user", content: prompt }], ...rest };
  const entries = Object.entries(given);
  const own = Object.fromEntries(entries.filter(([name]) => !IN_OPENAI.has(name)));
  const named = entries.filter(([name]) => IN_OPENAI.has(name)).map(([name, value]) => `    ${name}=${literal(value)},\n`);
  return named.join("") + (Object.keys(own).length ? `    extra_body=${literal(own)},\n` : "");
}
