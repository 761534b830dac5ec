"""Writes llama_cpp_tokens.json: varied strings and the tokens llama.cpp gives them with the stand-in's GGUF.

Run by hand: `pip install llama-cpp-python==0.3.36`, then `python make_tokens.py SmolLM2-135M-Instruct.Q4_1.gguf`.
"""

import json
import random
import sys
from pathlib import Path

from llama_cpp import Llama

PLAIN = [
    "The quick brown fox jumps over the lazy dog.",
    "It's 3.14159, isn't it? We'll see: 1,000,000 + 27 = 1000027!",
    "def f(x: int) -> str:",
    '    return f"{x:>10}"  # comment',
    "",
    "",
    "",
    "SELECT * FROM users WHERE name LIKE '%O''Brien%' AND id >= 42;",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "我能吞下玻璃而不伤身体。 日本語のテキスト、カタカナ。 한국어 문장입니다.",
    "العربية من اليمين إلى اليسار עברית",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 😀😃 é ﬁ ½ ² ℵ ∑∫",
    "\t\ttabs\r",
    "and  double   spaces    \xa0nbsp\u200bzero",
    "https://example.com/a/b?c=d&e=%20f#g user@example.org C:\\Users\\x",
    '<html><body class="a">&amp;</body></html> {"k": [1, 2, null]}',
    "HELLO hello HeLLo don't DON'T I'm we've they'd",
    "0 00 007 1234567890 12 3456 0x1F 1e-10 ①②③ ٣٤٥",
    "",
]
SPECIAL = [
    "<|im_start|>user\nhi<|im_end|>\n",
    "a<|im_end|>b",
    "<|endoftext|>",
    " <repo_name> x",
    "<|im_end|><|im_end|>",
]


def scrambled(count: int) -> list[str]:
    """Random mixtures of the plain lines' characters and runs of whitespace; the seed is fixed."""
    choose, alphabet = random.Random(2026), sorted(set("".join(PLAIN)) | set(" \n\t"))
    return ["".join(choose.choices(alphabet, k=choose.randint(1, 40))) for _ in range(count)]


def main() -> None:
    """Tokenize every string; special tokens are parsed, no start token is added."""
    model = Llama(sys.argv[1], vocab_only=True, verbose=False)
    texts = [*PLAIN, *SPECIAL, " ", "\n", "\n\n", *scrambled(250)]
    cases = [[text, model.tokenize(text.encode(), add_bos=False, special=True)] for text in texts if text]
    Path(__file__).with_name("llama_cpp_tokens.json").write_text(json.dumps(cases) + "\n")
    print(len(cases), "strings")


if __name__ == "__main__":
    main()
