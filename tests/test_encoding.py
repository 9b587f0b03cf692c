"""Text files are UTF-8, whatever the locale is."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "vl3d_lite"
TEXT = {"read_text", "write_text"}
# Files of the system, whose content is ASCII.
SYSTEM = {"system/resources.py"}


def unencoded(path: Path) -> list[int]:
    """Lines that read or write text in the encoding of the locale."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        named = any(word.arg == "encoding" for word in node.keywords)
        method = isinstance(node.func, ast.Attribute) and node.func.attr
        opens = method == "open" or getattr(node.func, "id", "") == "open"
        modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
        modes += [w.value.value for w in node.keywords if w.arg == "mode"]
        binary = any("b" in str(mode) for mode in modes)
        of_archive = opens and getattr(node.func, "value", None) is not None
        of_archive = of_archive and getattr(node.func.value, "id", "") in (
            "archive",
            "os",
        )
        if (method in TEXT or (opens and not binary and not of_archive)) and not named:
            found.append(node.lineno)
    return found


def test_every_text_file_is_read_and_written_as_utf8():
    found = {
        name: lines
        for path in sorted(ROOT.rglob("*.py"))
        if (name := str(path.relative_to(ROOT))) not in SYSTEM
        if (lines := unencoded(path))
    }
    assert not found
