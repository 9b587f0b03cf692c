"""Keras layers for point clouds: tensors in, tensors out."""

from vl3d_lite.model.layers.envelope_attention import EnvelopeGatedAttention
from vl3d_lite.model.layers.envelope_softmax import (
    cutoff_envelope,
    envelope_gated_softmax,
    segment_envelope_gated_softmax,
)
from vl3d_lite.model.layers.equivariant import (
    EquivariantLayerNorm,
    EquivariantLinear,
    EquivariantMultiHeadAttention,
    EquivariantRMSNorm,
    EquivariantTransformerDecoderLayer,
    InvariantPooling,
    LiftedOffsets,
    PooledCopies,
    RegularLift,
    RegularRepresentation,
    RepeatedCopies,
    StackedCopies,
    SymmetryGroup,
    TurnedCopies,
    get_group,
)
from vl3d_lite.model.layers.fibonacci import FibonacciShellInitializer
from vl3d_lite.model.layers.field_attention import FieldAttentionLayer
from vl3d_lite.model.layers.grouped_query_attention import GroupedQueryAttentionLayer
from vl3d_lite.model.layers.gva import GroupedVectorAttentionLayer
from vl3d_lite.model.layers.kernel_geometry import KernelGeometryLayer
from vl3d_lite.model.layers.kpconvx import KPConvXLayer
from vl3d_lite.model.layers.neighborhood import (
    flat_rows,
    gather_neighbors,
    is_present,
    is_real,
    neighbor_offsets,
    settle,
)
from vl3d_lite.model.layers.pooling import (
    NeighborMaxPool,
    NeighborMeanPool,
    NeighborUpsample,
)
from vl3d_lite.model.layers.torf_gva import TORFGVALayer
from vl3d_lite.model.layers.unary import UnaryBlock

__all__ = [
    "EnvelopeGatedAttention",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "EquivariantMultiHeadAttention",
    "EquivariantRMSNorm",
    "EquivariantTransformerDecoderLayer",
    "FibonacciShellInitializer",
    "FieldAttentionLayer",
    "GroupedQueryAttentionLayer",
    "GroupedVectorAttentionLayer",
    "InvariantPooling",
    "KPConvXLayer",
    "KernelGeometryLayer",
    "LiftedOffsets",
    "NeighborMaxPool",
    "NeighborMeanPool",
    "NeighborUpsample",
    "PooledCopies",
    "RegularLift",
    "RegularRepresentation",
    "RepeatedCopies",
    "StackedCopies",
    "SymmetryGroup",
    "TORFGVALayer",
    "TurnedCopies",
    "UnaryBlock",
    "cutoff_envelope",
    "envelope_gated_softmax",
    "flat_rows",
    "gather_neighbors",
    "get_group",
    "is_present",
    "is_real",
    "neighbor_offsets",
    "segment_envelope_gated_softmax",
    "settle",
]
