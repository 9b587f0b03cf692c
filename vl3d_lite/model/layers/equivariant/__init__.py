"""Layers that commute with rotations (and mirrors) about the vertical axis."""

from vl3d_lite.model.layers.equivariant.attention import EquivariantMultiHeadAttention
from vl3d_lite.model.layers.equivariant.decoder import (
    EquivariantTransformerDecoderLayer,
)
from vl3d_lite.model.layers.equivariant.groups import (
    RegularRepresentation,
    SymmetryGroup,
    get_group,
)
from vl3d_lite.model.layers.equivariant.lifting import InvariantPooling, RegularLift
from vl3d_lite.model.layers.equivariant.linear import EquivariantLinear
from vl3d_lite.model.layers.equivariant.norm import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
)
from vl3d_lite.model.layers.equivariant.positions import LiftedOffsets
from vl3d_lite.model.layers.equivariant.rotated_copies import (
    PooledCopies,
    RepeatedCopies,
    RotatedCopies,
    StackedCopies,
)

__all__ = [
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "EquivariantMultiHeadAttention",
    "EquivariantRMSNorm",
    "EquivariantTransformerDecoderLayer",
    "InvariantPooling",
    "LiftedOffsets",
    "PooledCopies",
    "RegularLift",
    "RegularRepresentation",
    "RepeatedCopies",
    "RotatedCopies",
    "StackedCopies",
    "SymmetryGroup",
    "get_group",
]
