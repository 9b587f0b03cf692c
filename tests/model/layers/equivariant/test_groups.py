"""Groups: their tables, their matrices, their irreps."""

import numpy as np
import pytest

from tests.oracles_equivariant import GROUPS, find, matrices
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import RegularRepresentation, SymmetryGroup, get_group

NAMES = [*GROUPS, "C3", "C5", "D2", "D3", "D5", "D6"]


@pytest.mark.parametrize("name", NAMES)
def test_products_and_inverses_are_those_of_the_matrices(name):
    group, elements = get_group(name), matrices(name)
    assert group.order == len(elements)
    for a, left in enumerate(elements):
        np.testing.assert_allclose(group.matrices[a][:2, :2], left, atol=1e-15)
        assert group.inverse[a] == find(elements, left.T)
        for b, right in enumerate(elements):
            assert group.product[a, b] == find(elements, left @ right)
            assert group.tie[a, b] == find(elements, left.T @ right)


@pytest.mark.parametrize("name", NAMES)
def test_rho_moves_the_entry_of_h_to_that_of_gh(name):
    group = get_group(name)
    for g in range(group.order):
        for h in range(group.order):
            moved = group.rho(g) @ np.eye(group.order)[h]
            np.testing.assert_array_equal(
                moved, np.eye(group.order)[group.product[g, h]]
            )


@pytest.mark.parametrize("name", NAMES)
def test_irreps_are_an_orthonormal_basis_in_which_only_rows_move(name):
    group = get_group(name)
    basis = np.concatenate(
        [irrep.basis.reshape(-1, group.order) for irrep in group.irreps]
    )
    np.testing.assert_allclose(basis @ basis.T, np.eye(group.order), atol=1e-14)
    for g in range(group.order):
        for irrep in group.irreps:
            moved = irrep.basis @ group.rho(g)
            blocks = np.einsum("rsh,qth->rsqt", moved, irrep.basis)
            if group.mirrored or irrep.width == 1:
                own = np.eye(irrep.width)[None, :, None] * blocks[:, :1, :, :1]
                np.testing.assert_allclose(blocks, own, atol=1e-14)
            kept = np.einsum("rsqt,qth->rsh", blocks, irrep.basis)
            np.testing.assert_allclose(kept, moved, atol=1e-14)


def test_quarter_rotations_have_no_rounding():
    for name in ("C4", "D4", "C8"):
        step = 2 if name == "C8" else 1
        values = get_group(name).matrices[::step]
        assert set(np.unique(np.abs(values))) <= {0.0, 1.0}


def test_a_representation_names_group_and_multiplicity():
    rep = RegularRepresentation("D4", 3)
    assert (rep.size, rep.multiplicity, rep.group.name) == (24, 3, "D4")
    assert rep == RegularRepresentation(SymmetryGroup("D4"), 3)
    assert rep != RegularRepresentation("C8", 3)
    np.testing.assert_array_equal(rep.rho(5)[8:16, 8:16], rep.group.rho(5))
    assert get_group("C1") == get_group("trivial")


@pytest.mark.parametrize("name", ["C0", "E4", "C-1", "4", "", "C65", None])
def test_an_unknown_group_is_named(name):
    with pytest.raises(DeepLearningException, match=r"`group` must be trivial, C<n>"):
        SymmetryGroup(name)


@pytest.mark.parametrize("multiplicity", [0, -1, 1.5])
def test_the_multiplicity_is_whole_and_positive(multiplicity):
    with pytest.raises(DeepLearningException, match=r"`multiplicity` must be a whole"):
        RegularRepresentation("C4", multiplicity)


def test_elements_outside_the_group_are_refused():
    with pytest.raises(DeepLearningException, match=r"`element` must be in \[0, 4\)"):
        get_group("C4").rho(4)
