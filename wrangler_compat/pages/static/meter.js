// The numbers of an answer: tokens, time and speed, while it comes and once it is there.

export class Meter {
  constructor(list) {
    this.list = list;
  }

  begin() {
    this.began = performance.now();
    this.first = undefined;
    this.pieces = 0;
    this.show({});
  }

  piece() {
    this.first ??= performance.now();
    this.pieces += 1;
    this.show({});
  }

  // usage: as the platform tells it. Between the first token and the last there is one fewer than there are tokens.
  show(usage, neurons) {
    const now = performance.now();
    const written = usage.completion_tokens ?? this.pieces;
    const seconds = this.first === undefined ? 0 : (now - this.first) / 1000;
    this.write({
      "Tokens/s": seconds > 0 && written > 1 ? ((written - 1) / seconds).toFixed(1) : "–",
      "Tokens written": written,
      "Tokens read": usage.prompt_tokens ?? "–",
      "First token": this.first === undefined ? "–" : `${Math.round(this.first - this.began)} ms`,
      Took: `${((now - this.began) / 1000).toFixed(2)} s`,
      ...(neurons === undefined ? {} : { Neurons: neurons }),
    });
  }

  write(numbers) {
    this.list.hidden = false;
    this.list.replaceChildren(...Object.entries(numbers).map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
      return pair;
    }));
  }
}
