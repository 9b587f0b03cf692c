"""Names of dimensions in a spec that only the clouds can confirm."""

from collections.abc import Iterator

from vl3d_lite.spec.base import KeyPath
from vl3d_lite.spec.schema.clouds import (
    COMPUTED_FEATURES,
    LAS_DIMENSIONS,
    STORED_COORDINATES,
)
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.spec.suggestions import closest

# Extra dimensions have arbitrary names; a suggestion needs a near miss.
_SIMILARITY = 0.8
_STANDARD = tuple(name for name in LAS_DIMENSIONS if name not in STORED_COORDINATES)


def doubtful_dimensions(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """Dimensions that neither the LAS standard nor vl3d_lite defines.

    A cloud may have an extra dimension of such a name, so this is no error; where
    the clouds can be read, their headers decide. A known name is suggested for a
    near miss, but not where the case alone differs, as in PDAL's ``Planarity``.

    Yields:
        The key path of the name, and a warning.
    """
    for number, feature in enumerate(spec.features):
        known = (*COMPUTED_FEATURES, *_STANDARD)
        if feature.name not in known:
            yield (
                ("features", number),
                f"`{feature.name}` is not a computed feature nor a standard LAS "
                f"dimension; {_remedy(feature.name, known)}",
            )
    weights = spec.model.source_weights
    if weights and weights.dimension not in _STANDARD:
        yield (
            ("model", "source_weights", "dimension"),
            f"`{weights.dimension}` is not a standard LAS dimension; "
            f"{_remedy(weights.dimension, _STANDARD)}",
        )


def _remedy(name: str, known: tuple[str, ...]) -> str:
    remedy = "it must be an extra dimension of the clouds"
    if name.lower() in (other.lower() for other in known):
        return remedy
    match = closest(name, known, _SIMILARITY)
    return f"{remedy}; did you mean `{match}`?" if match else remedy
