"""Finite symmetry groups about the vertical axis, and their regular representation."""

import functools
import math
import re

import numpy as np

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import with_new_names

# Rotations of a group. Each is a free parameter of every kernel entry.
MOST_ROTATIONS = 64

# Model files of version 0.1 hold the old names.
OLD_NAMES = {"copies": "multiplicity"}


class Irrep:
    """A real irreducible representation as it occurs in the regular one.

    Rows of `basis` are orthonormal functions on the group. In this basis an
    element acts on the `rows` axis alone, and a map that commutes with the
    group on the `width` axis alone.

    Attributes:
        rows: Components that the group mixes and commuting maps do not mix.
        width: Components that commuting maps mix with the copies.
        scales: Copies of the irrep in one regular representation: 1, or 2 for
            the planes of a dihedral group.
        basis: ``(rows, width, |G|)`` float64.
    """

    def __init__(self, basis, scales):
        self.basis = np.asarray(basis, np.float64)
        self.rows, self.width, _ = self.basis.shape
        self.scales = scales


class SymmetryGroup:
    """A cyclic, dihedral or trivial group of rotations about the vertical axis.

    Elements ``0 .. n - 1`` rotate by ``2 pi h / n`` counterclockwise. A dihedral
    group adds ``n .. 2n - 1``, which mirror y first and then rotate.

    Args:
        name: "trivial", "C4" (cyclic, any number), or "D4" (dihedral).

    Attributes:
        name: The given name; "trivial" for C1.
        order: Number of elements, ``|G|``.
        product: ``(|G|, |G|)`` int; entry ``[a, b]`` is the element ``a b``.
        inverse: ``(|G|,)`` int.
        matrices: ``(|G|, 3, 3)`` float64, the action of the elements on
            coordinates. Multiples of 90 degrees are exact.
        irreps: List of `Irrep`, that of the constants first.

    Raises:
        DeepLearningException: The name is not that of a group, or the group has
            more than 64 rotations.
    """

    def __init__(self, name):
        found = re.fullmatch(r"(?:trivial|([CD])([1-9]\d?))", str(name))
        rotations = int(found[2] or 1) if found else 0
        if found is None or not 1 <= rotations <= MOST_ROTATIONS:
            raise DeepLearningException(
                "`group` must be trivial, C<n> or D<n> with n from 1 to "
                f"{MOST_ROTATIONS}, for example C4 or D4. Received: {name!r}"
            )
        self.mirrored = found[1] == "D"
        self.rotations = rotations
        self.order = rotations * (2 if self.mirrored else 1)
        self.name = "trivial" if self.order == 1 else str(name)
        self.matrices = np.stack([self._matrix(h) for h in range(self.order)])
        every = range(self.order)
        self.product = np.array([[self._multiply(a, b) for b in every] for a in every])
        self.inverse = np.argmin(self.product, axis=1)  # the neutral element is 0
        self.irreps = self._irreps()

    def __repr__(self):
        return f"SymmetryGroup({self.name!r})"

    def __eq__(self, other):
        return isinstance(other, SymmetryGroup) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    def rho(self, element):
        """Return the regular representation, ``(|G|, |G|)`` float64, ``e_h -> e_gh``.

        ``(rho(g) x)[h] = x[g^-1 h]``.

        Args:
            element: Index of ``g``, in ``[0, |G|)``.

        Raises:
            DeepLearningException: The element does not exist.
        """
        if not 0 <= element < self.order:
            raise DeepLearningException(
                f"{self.name}: `element` must be in [0, {self.order}). "
                f"Received: {element}"
            )
        return np.eye(self.order)[self.product[self.inverse[element]]]

    @property
    def tie(self):
        """``(|G|, |G|)`` int, the kernel entry ``h^-1 k`` of row h and column k."""
        return self.product[self.inverse]

    def _split(self, element):
        return element % self.rotations, element >= self.rotations

    def _multiply(self, a, b):
        (first, mirror), (second, other) = self._split(a), self._split(b)
        # A mirror reverses the direction of the rotation that follows it.
        rotation = (first - second if mirror else first + second) % self.rotations
        return rotation + self.rotations * (mirror != other)

    def _matrix(self, element):
        rotation, mirror = self._split(element)
        cos, sin = _exact(rotation, self.rotations)
        flip = -1.0 if mirror else 1.0
        return np.array([[cos, -flip * sin, 0], [sin, flip * cos, 0], [0, 0, 1]])

    def _irreps(self):
        rotation = np.arange(self.order) % self.rotations
        mirror = np.where(np.arange(self.order) >= self.rotations, -1.0, 1.0)
        one = 1 / math.sqrt(self.order)
        found = []
        for frequency in range(self.rotations // 2 + 1):
            angle = 2 * np.pi * frequency * rotation / self.rotations
            cos, sin = np.cos(angle), np.sin(angle)
            if frequency == 0 or 2 * frequency == self.rotations:
                found.append(Irrep([[one * np.round(cos)]], 1))
                if self.mirrored:
                    found.append(Irrep([[one * np.round(cos) * mirror]], 1))
            elif self.mirrored:
                matrix = [[cos, -sin * mirror], [sin, cos * mirror]]
                found.append(Irrep(math.sqrt(2) * one * np.array(matrix), 2))
            else:
                found.append(Irrep([math.sqrt(2) * one * np.array([cos, sin])], 1))
        return found


def _exact(rotation, rotations):
    """Return cosine and sine of a part of a full rotation; quarters are exact."""
    if 4 * rotation % rotations == 0:
        quarter = 4 * rotation // rotations
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter]
    angle = 2 * math.pi * rotation / rotations
    return math.cos(angle), math.sin(angle)


@functools.cache
def _named(name):
    return SymmetryGroup(name)


def get_group(group):
    """Return the group of a name, or the group itself."""
    return group if isinstance(group, SymmetryGroup) else _named(str(group))


class RegularRepresentation:
    """Stacked copies of a group's regular representation.

    A field of it is ``(..., multiplicity * |G|)``, copy-major: entry ``c |G| + h``
    belongs to copy ``c`` and element ``h``.

    Args:
        group: A name such as "C4", or a `SymmetryGroup`.
        multiplicity: Number of copies, at least 1.

    Raises:
        DeepLearningException: `multiplicity` is not a positive whole number, or the
            group is unknown.
    """

    def __init__(self, group, multiplicity):
        if int(multiplicity) != multiplicity or multiplicity < 1:
            raise DeepLearningException(
                "`multiplicity` must be a whole number of at least 1. "
                f"Received: {multiplicity!r}"
            )
        self.group = get_group(group)
        self.multiplicity = int(multiplicity)

    @property
    def size(self):
        """Number of channels, ``multiplicity * |G|``."""
        return self.multiplicity * self.group.order

    def rho(self, element):
        """Return ``(size, size)`` float64, the action of an element on the channels."""
        return np.kron(np.eye(self.multiplicity), self.group.rho(element))

    def get_config(self):
        return {"group": self.group.name, "multiplicity": self.multiplicity}

    def __eq__(self, other):
        return (
            isinstance(other, RegularRepresentation)
            and self.get_config() == other.get_config()
        )

    def __hash__(self):
        return hash((self.group, self.multiplicity))

    def __repr__(self):
        return (
            f"RegularRepresentation({self.group.name!r}, "
            f"multiplicity={self.multiplicity})"
        )


def get_representation(representation):
    """Return a representation, from itself, its config or ``(group, multiplicity)``.

    Raises:
        DeepLearningException: It is none of these.
    """
    if isinstance(representation, RegularRepresentation):
        return representation
    if isinstance(representation, dict):
        config = with_new_names(representation, OLD_NAMES)
        if set(config) == {"group", "multiplicity"}:
            return RegularRepresentation(**config)
    elif isinstance(representation, list | tuple) and len(representation) == 2:
        return RegularRepresentation(*representation)
    raise DeepLearningException(
        "`in_rep` must be a RegularRepresentation, or the group and the "
        f"multiplicity of one, for example ('C4', 16). Received: {representation!r}"
    )
