"""Every layer documents itself in the house order."""

import inspect
import re

import keras
import pytest

from vl3d_lite.model import layers
from vl3d_lite.model.ensemble import ProbabilityMean

SECTIONS = ["Shapes", "Args", "Call arguments", "Returns", "Raises", "Source"]
LAYERS = [
    *(
        value
        for name in layers.__all__
        if isinstance(value := getattr(layers, name), type)
        and issubclass(value, keras.layers.Layer)
    ),
    ProbabilityMean,
]


def sections_of(layer):
    """Split a docstring into its text and its sections, in order."""
    text = inspect.cleandoc(layer.__doc__)
    head, *rest = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.M)
    return head, list(zip(rest[::2], rest[1::2], strict=True))


def entries_of(section):
    """List the names that the entries of a section begin with."""
    heads = re.findall(r"^    (\S[^:]*(?:\n[^:]*)?):", section, flags=re.M)
    return [name.strip("* \n") for head in heads for name in head.split(",")]


def arguments_of(function):
    names = [
        name
        for name, argument in inspect.signature(function).parameters.items()
        if argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL)
    ]
    return names[1:]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_sections_are_complete_and_in_order(layer):
    _, sections = sections_of(layer)
    assert [name for name, _ in sections] == SECTIONS
    for name, text in sections:
        assert text.strip(), f"{name} is empty"


@pytest.mark.parametrize("layer", LAYERS)
def test_one_sentence_and_a_formula_come_first(layer):
    head, _ = sections_of(layer)
    summary, *rest = head.split("\n\n")
    assert "\n" not in summary
    assert summary[-1] == "." or summary.endswith("::")
    assert ". " not in summary
    assert "::" in head, "no formula"
    assert rest


@pytest.mark.parametrize("layer", LAYERS)
def test_all_arguments_are_listed_in_order(layer):
    sections = dict(sections_of(layer)[1])
    own = layer.__init__ is not keras.layers.Layer.__init__
    given = arguments_of(layer.__init__) if own else []
    assert entries_of(sections["Args"]) == (given or ["kwargs"])
    assert entries_of(sections["Call arguments"]) == arguments_of(layer.call)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_error_is_the_one_of_all_layers(layer):
    raises = dict(sections_of(layer)[1])["Raises"]
    assert entries_of(raises) == ["DeepLearningException"]
