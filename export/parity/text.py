"""The texts of the parity check: about 2 kB of prose, dialogue, figures and code, and three short prompts."""

from __future__ import annotations

PROMPTS = (
    "What is the capital of France, and which river runs through it?",
    "def fibonacci(n: int) -> int:\n    ",
    "1, 2, 4, 8, 16, ",
)

TEXT = """\
The lighthouse keeper's daughter learnt to read from the backs of seed packets. By the time she was seven she knew \
the Latin name of every vegetable that could be grown within sight of the sea, and not one story that did not end \
with a harvest. Her father, who had read three books in his life and distrusted two of them, saw no reason to \
hurry.

In spring the supply boat brought a crate that nobody had ordered. Inside, under straw, lay forty volumes of an \
encyclopaedia, A to Z with the letter M missing. "So we shall never know about the moon," said the keeper. "Or \
marriage," said his sister. "Or mathematics," said the girl, who had already found the index.

How to measure the height of a tree: on a sunny day, push a stick into the ground so that exactly one metre of it \
stands upright. Measure the shadow of the stick, then the shadow of the tree. If the stick's shadow is 0.8 m long \
and the tree's is 12 m, the tree is 12 / 0.8 = 15 metres tall. The method works because the sun is so far away that \
its rays are parallel.

```python
def mean(values: list[float]) -> float:
    \"\"\"The arithmetic mean; an empty list has none.\"\"\"
    if not values:
        raise ValueError("mean of an empty list")
    return sum(values) / len(values)


for name, marks in {"Ada": [1.0, 1.3], "Bo": [2.7]}.items():
    print(f"{name}: {mean(marks):.2f}")
```

User: My bicycle makes a clicking sound when I pedal. What should I look at first?
Assistant: Find out whether it clicks once per turn of the pedals or once per turn of the wheel. If it follows the \
pedals, check that the pedals and the cranks are tight, and that nothing touches the front derailleur. If it \
follows the wheel, look for a loose spoke or a bent disc. A dry chain squeaks rather than clicks, but a drop of oil \
never hurts.

Le train de nuit arrive à Lyon à six heures. Der Zug nach Wien fährt um 7:45 Uhr ab. El café está frío.
"""
