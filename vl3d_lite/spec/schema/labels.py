"""Labels of clouds: their dimension, and codes that differ between groups of clouds."""

import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from vl3d_lite.spec.base import Files, KeyPath, LabelCodes, Section, Violation
from vl3d_lite.spec.suggestions import did_you_mean

CLASSIFICATION = "classification"
LARGEST_CODE = 255  # of the dimension `classification`
_OR = re.compile(r"[ _]or[ _]")


def class_indices(name: str, class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Indices of the class, or of the classes of a partial label, that a name means.

    Args:
        name: A class, or classes joined by `` or `` or ``_or_``.
        class_names: The classes of the spec.

    Returns:
        None where a part of the name is no class, or one is named twice.
    """
    parts = [name] if name in class_names else _OR.split(name)
    if not all(part in class_names for part in parts) or len({*parts}) < len(parts):
        return None
    return tuple(class_names.index(part) for part in parts)


def code_violations(
    codes: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    dimension: str,
    key: KeyPath,
) -> Iterator[Violation]:
    """Check the codes of one mapping of names to codes.

    Args:
        codes: Class or partial label to codes.
        class_names: The classes of the spec.
        dimension: The dimension that holds the codes.
        key: Key path of the mapping.
    """
    owner: dict[int, str] = {}
    for name, own in codes.items():
        indices = class_indices(name, class_names)
        if indices is None:
            hint = did_you_mean(name, class_names, otherwise=".")
            yield Violation(
                f"must be a class, or different classes joined by ` or `{hint} The "
                f"spec has: {', '.join(class_names)}",
                ((*key, name),),
            )
        for code in own:
            if code in owner:
                yield Violation(
                    f"code {code} is already claimed by `{owner[code]}`",
                    ((*key, name),),
                )
            owner.setdefault(code, name)
            if dimension == CLASSIFICATION and not 0 <= code <= LARGEST_CODE:
                yield Violation(
                    f"a code of `{CLASSIFICATION}` must be from 0 to {LARGEST_CODE}. "
                    f"Received: {code}",
                    ((*key, name),),
                )


class LabelsSpec(Section):
    """Where labels are read from, and which codes mean which class."""

    dimension: str = Field(default="classification", min_length=1)
    """LAS or extra dimension that holds the labels. NaN means no label."""
    codes: dict[str, LabelCodes] = Field(default={})
    """Class name to its codes in this dimension, in place of those of `classes`;
    classes not named keep theirs. A name such as `vegetation or other` is a partial
    label: a point that belongs to one of these classes."""


class CloudGroupSpec(Section):
    """Clouds whose codes do not have the meaning that `classes` gives them."""

    files: Files = Field(min_length=1)
    """LAS and LAZ files: paths, globs or folders, relative to the spec."""
    classes: dict[str, LabelCodes] = Field(default={})
    """Class name to its codes in these files. Classes not named keep their codes, and
    a code named here has no other meaning. `vegetation or other: 1` is a partial
    label: each point of code 1 belongs to one of these classes."""
    ignore: LabelCodes = Field(default=[])
    """Codes of these files that are ignored in the loss and in scores."""
    labels: LabelsSpec | None = None
    """Dimension of the labels of these files, and codes in it."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._single_mapping_violations(), self._ignore_violations()]

    def _single_mapping_violations(self) -> Iterator[Violation]:
        if self.classes and self.labels is not None and self.labels.codes:
            yield Violation(
                "give `classes` or `labels.codes`, not both", (("labels", "codes"),)
            )

    def _ignore_violations(self) -> Iterator[Violation]:
        for code in self.ignore:
            for name, codes in self.codes.items():
                if code in codes:
                    yield Violation(
                        f"code {code} is also a code of `{name}`", (("ignore",),)
                    )

    @property
    def codes(self) -> dict[str, list[int]]:
        """Class or partial label to the codes that it has in these files."""
        return self.classes or (self.labels.codes if self.labels is not None else {})
