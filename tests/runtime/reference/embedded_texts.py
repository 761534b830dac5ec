"""Varied texts whose embeddings are compared: short and long, in several scripts, and one that must be cut."""

TEXTS = (
    "A man is eating a bowl of noodles.",
    "Somebody is having pasta for lunch.",
    "The central bank raised interest rates again.",
    "x",
    "   Spaces,\tTABS\nand NEWLINES   ",
    "Crème brûlée, naïve café, Ångström",
    "今天天气很好，我们去公园散步。",  # noqa: RUF001  (a Chinese comma)
    "Привет, как дела?",
    "emoji 🙂 and symbols ∑ ≠ ∞ — “quotes”",
    "[CLS] special [SEP] words [MASK] in a text [PAD]",
    "def embed(texts):\n    return [model(text) for text in texts]  # 100 % code",
    " ".join(f"Sentence {number} says that roost {number * 7} has birds on it." for number in range(20)),
    " ".join(f"Paragraph {number}: the quick brown fox jumps over {number} lazy dogs." for number in range(80)),
)
