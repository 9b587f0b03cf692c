"""Keras layers for point clouds: tensors in, tensors out.

Example:
    >>> import numpy as np
    >>> import vl3d_lite
    >>> pool = vl3d_lite.model.layers.NeighborMaxPool()
    >>> features = np.array([[[1.0], [5.0], [3.0]]], np.float32)
    >>> tuple(pool([features, np.array([[[0, 1], [2, -1]]])]).shape)
    (1, 2, 1)
"""

from vl3d_lite.model.layers.attention.envelope_attention import EnvelopeGatedAttention
from vl3d_lite.model.layers.attention.envelope_softmax import (
    cutoff_envelope,
    envelope_gated_softmax,
    segment_envelope_gated_softmax,
)
from vl3d_lite.model.layers.attention.field_attention import FieldAttentionLayer
from vl3d_lite.model.layers.attention.grouped_query_attention import (
    GroupedQueryAttentionLayer,
)
from vl3d_lite.model.layers.attention.grouped_vector_attention import (
    GroupedVectorAttentionLayer,
)
from vl3d_lite.model.layers.attention.torf_gva import TORFGVALayer
from vl3d_lite.model.layers.convolution.fibonacci import FibonacciShellInitializer
from vl3d_lite.model.layers.convolution.kernel_geometry import (
    KernelGeometryLayer,
    kernel_geometry,
)
from vl3d_lite.model.layers.convolution.kpconvx import KPConvXLayer
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
    RotatedCopies,
    StackedCopies,
    SymmetryGroup,
    get_group,
)
from vl3d_lite.model.layers.indices import CoarseNeighbors, RealPoints
from vl3d_lite.model.layers.neighborhood import (
    flat_rows,
    gather_neighbors,
    is_present,
    is_real,
    materialize,
    neighbor_offsets,
)
from vl3d_lite.model.layers.pooling import (
    NeighborMaxPool,
    NeighborMeanPool,
    NeighborUpsample,
)
from vl3d_lite.model.layers.unary import UnaryBlock

__all__ = [
    "CoarseNeighbors",
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
    "RealPoints",
    "RegularLift",
    "RegularRepresentation",
    "RepeatedCopies",
    "RotatedCopies",
    "StackedCopies",
    "SymmetryGroup",
    "TORFGVALayer",
    "UnaryBlock",
    "cutoff_envelope",
    "envelope_gated_softmax",
    "flat_rows",
    "gather_neighbors",
    "get_group",
    "is_present",
    "is_real",
    "kernel_geometry",
    "materialize",
    "neighbor_offsets",
    "segment_envelope_gated_softmax",
]
