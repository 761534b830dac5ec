// Tells a screen reader the words that come: whole sentences at a time, for word by word nobody can listen to.

export class Speech {
  constructor(region) {
    this.region = region;
    this.waiting = "";
  }

  begin() {
    this.region.replaceChildren();
    this.waiting = "";
  }

  add(text) {
    this.waiting += text;
    const end = this.waiting.search(/[.!?\n][^.!?\n]*$/);
    if (end >= 0) this.say(end + 1);
  }

  end() {
    this.say(this.waiting.length);
  }

  say(length) {
    const sentence = this.waiting.slice(0, length).trim();
    this.waiting = this.waiting.slice(length);
    if (!sentence) return;
    const line = document.createElement("span");
    line.textContent = `${sentence} `;
    this.region.append(line);
  }
}
