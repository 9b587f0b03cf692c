"""Lists of one entry per class as mappings by class name.

The position of an entry names a class only where the same file names the classes:
a spec that extends another one may have its classes in another order.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from vl3d_lite.spec.nodes import Entry, ErrorLine, Node

# Key paths of values with one entry per class.
CLASS_LISTS = (("training", "class_weights"),)


def name_class_lists(root: Node, errors: list[ErrorLine]) -> Node:
    """Convert the lists by class of one file to mappings by its class names.

    A file without classes keeps its lists, for `require_class_names`.

    Args:
        root: The mapping of one file, before it is laid over another.
        errors: Receives the errors found.
    """
    classes = _value(root, ("classes",))
    if classes is None or not isinstance(classes.value, dict) or not classes.value:
        return root
    for path in CLASS_LISTS:
        node = _value(root, path)
        if node is not None and isinstance(node.value, list):
            root = _replaced(root, path, _by_name(node, list(classes.value), errors))
    return root


def require_class_names(root: Node, errors: list[ErrorLine]) -> Node:
    """Report each list by class that no class names of its own file explain.

    Args:
        root: The whole spec, with all that it extends and all overrides.
        errors: Receives the errors found; each shows the mapping to write.

    Returns:
        The spec without these lists.
    """
    classes = _value(root, ("classes",))
    names = cast("dict[str, Entry]", classes.value if classes is not None else {})
    for path in CLASS_LISTS:
        node = _value(root, path)
        if node is None or not isinstance(node.value, list):
            continue
        if classes is not None and classes.position.name == "--set classes":
            # The command line names the classes as well.
            named = _by_name(node, list(names), errors)
        else:
            name, named = ".".join(path), None
            errors.append(
                ErrorLine(
                    node.position,
                    f"`{name}` is a list, whose order is that of classes named in the "
                    "same file, and here are none; write "
                    f"`{path[-1]}: {_example(node, names)}`",
                )
            )
        root = _replaced(root, path, named)
    return root


def _by_name(node: Node, names: Sequence[str], errors: list[ErrorLine]) -> Node | None:
    items = cast("list[Node]", node.value)
    if len(items) != len(names):
        errors.append(
            ErrorLine(
                node.position,
                f"`training.class_weights` must have one entry for each of the "
                f"{len(names)} classes. Received: {len(items)}",
            )
        )
        return None
    entries = zip(names, items, strict=True)
    value = {name: Entry(item.position, item) for name, item in entries}
    return replace(node, value=value)


def _example(node: Node, names: object) -> str:
    """The mapping to write in place of a list, or its form."""
    values = [item.value for item in node.value if isinstance(item, Node)]
    texts = [value for value in values if isinstance(value, str)]
    if not isinstance(names, dict) or len(texts) != len(names):
        return "{CLASS: NUMBER}"
    pairs = (f"{name}: {text}" for name, text in zip(names, texts, strict=True))
    return f"{{{', '.join(pairs)}}}"


def _value(root: Node, path: Sequence[str]) -> Node | None:
    node = root
    for key in path:
        if not isinstance(node.value, dict) or key not in node.value:
            return None
        node = node.value[key].node
    return node


def _replaced(root: Node, path: Sequence[str], node: Node | None) -> Node:
    """A copy of `root` with the value at `path` replaced, or removed for None."""
    assert isinstance(root.value, dict)
    head, *tail = path
    entries = dict(root.value)
    inner = _replaced(entries[head].node, tail, node) if tail else node
    if inner is None:
        del entries[head]
    else:
        entries[head] = Entry(entries[head].key, inner)
    return replace(root, value=entries)
