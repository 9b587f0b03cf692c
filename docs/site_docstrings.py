"""Griffe extension: the house style's ``Example:`` is a section of Python code.

Griffe's Google style knows ``Examples:`` only and takes other headings for notes,
whose text would be read as Markdown.
"""

import re

import griffe


class Examples(griffe.Extension):
    """Rename the heading before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", text)
