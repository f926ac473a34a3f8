"""Prose uses no word that docs/style.md rejects. `python tests/test_plain_english.py PATH...` lists the breaches."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STYLE = ROOT / "docs" / "style.md"
SUFFIXES = {".py", ".md", ".cpp", ".h", ".mjs"}
EXEMPT = {
    "export/parity/text.py": "a text for the parity check",
    "export/recipes/calibration_text.py": "a text for measuring inputs",
    "infrs/native/third_party/onnxruntime_c_api.h": "ONNX Runtime's header",
}
CHECKED = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "benchmarks", "docs", "export", "infrs", "tests")

Line = tuple[int, str]


@cache
def rejected() -> re.Pattern[str]:
    """Return a pattern of the words in the glossary's last column and in the first column of the words to avoid.

    It matches whole words. A space in a phrase matches a line break and a comment mark too.
    """
    rows = [line.strip("| ").split("|") for line in STYLE.read_text().splitlines() if line.startswith("| ")]
    cells = [row[3] if len(row) == 4 else row[0] for row in rows if len(row) != 4 or row[3].strip()]
    words = [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    phrases = [r"[\s#/*]+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True)]
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


def python_prose(source: str, *, strings: bool) -> Iterator[Line]:
    """Yield comments, docstrings and names of functions and classes; with `strings`, all string literals."""
    comments = tokenize.generate_tokens(io.StringIO(source).readline)
    # Neighbouring comment lines are one text, so that a phrase is found across a line break.
    text = {token.start[0]: token.string for token in comments if token.type == tokenize.COMMENT}
    while text:
        first = last = min(text)
        while last + 1 in text:
            last += 1
        yield first, "\n".join(text.pop(line) for line in range(first, last + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name.replace("_", " ")
        literal = node if strings else node.value if isinstance(node, ast.Expr) else None  # the latter is a docstring
        if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
            yield literal.lineno, literal.value


def prose(path: Path) -> Iterator[Line]:
    """Yield the texts of a file that a person reads, each with the number of its first line."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from python_prose(source, strings="tests" not in path.relative_to(ROOT).parts)
    elif path.suffix == ".md":
        yield 1, re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), source, flags=re.DOTALL)
    else:
        for comment in re.finditer(r"(?:^[^\S\n]*//.*\n?)+|//.*|/\*.*?\*/", source, re.MULTILINE | re.DOTALL):
            text = comment[0] if comment[0].startswith("/*") else re.sub(r"\n\s*\n.*", "", comment[0], flags=re.DOTALL)
            yield source.count("\n", 0, comment.start()) + 1, text


def breaches(path: Path) -> list[str]:
    """Return `file:line: word` for every rejected word in a file."""
    found = []
    for line, text in prose(path):
        plain = re.sub(r"`[^`]*`", lambda code: "\n" * code[0].count("\n"), text)
        for match in rejected().finditer(plain):
            word = " ".join(match[0].split())
            found.append(f"{path.relative_to(ROOT)}:{line + plain.count(chr(10), 0, match.start())}: {word}")
    return found


def files(folder: Path) -> list[Path]:
    """Return the files below a folder that hold prose, or the file itself."""
    if folder.is_file():
        return [folder]
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    return [p for p in paths if "node_modules" not in p.parts and p.relative_to(ROOT).as_posix() not in EXEMPT]


@pytest.mark.parametrize("folder", CHECKED)
def test_prose_has_no_rejected_word(folder: str) -> None:
    assert files(ROOT / folder)
    assert [breach for path in files(ROOT / folder) for breach in breaches(path)] == []


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("a.py", '"""Guess.\n\n`guess`"""\nx = "Likeness"  # puts out\n', ["1: Guess", "4: Likeness", "4: puts out"]),
        ("tests/a.py", 'def test_guess(): ...\nx = "guess"\n# parity\n# gate\n', ["1: guess", "3: parity # gate"]),
        ("a.md", "Guesswork\n```\nguess\n```\nguessed\nput\nout `guess`\n", ["5: guessed", "6: put out"]),
        ("a.cpp", "int guess; // guesses\n/* parity\n * gate */\n", ["1: guesses", "2: parity * gate"]),
    ],
    ids=["python", "test", "document", "c++"],
)
def test_rejected_word_is_found(
    name: str, source: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(source)
    found = breaches(tmp_path / name)
    assert sorted(breach.removeprefix(f"{name}:") for breach in found) == sorted(words)


if __name__ == "__main__":
    listed = [breach for name in sys.argv[1:] for path in files(Path(name).resolve()) for breach in breaches(path)]
    print(*listed, f"{len(listed)} breaches", sep="\n")
