"""Names of dimensions in a spec that are likely to be misspelled."""

from collections.abc import Iterator

from vl3d_lite.spec.base import KeyPath
from vl3d_lite.spec.schema.clouds import COMPUTED_FEATURES, LAS_DIMENSIONS
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.spec.suggestions import closest

# Extra dimensions have arbitrary names; only a near miss is reported.
_SIMILARITY = 0.8


def doubtful_dimensions(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """Dimensions that are close to a known name but not equal to it.

    A cloud may have an extra dimension of such a name, so this is no error; where
    the clouds can be read, their headers decide. A name that differs in case only,
    such as PDAL's ``Planarity``, is taken for an extra dimension.

    Yields:
        The key path of the name, and a warning.
    """
    for number, feature in enumerate(spec.features):
        known = (*COMPUTED_FEATURES, *LAS_DIMENSIONS)
        if match := _near_miss(feature.name, known):
            yield (
                ("features", number),
                f"`{feature.name}` is neither a computed feature nor a LAS dimension; "
                f"did you mean `{match}`? (The clouds were not checked for an extra "
                "dimension of this name.)",
            )
    weights = spec.model.source_weights
    if weights and (match := _near_miss(weights.dimension, LAS_DIMENSIONS)):
        yield (
            ("model", "source_weights", "dimension"),
            f"`{weights.dimension}` is not a LAS dimension; did you mean `{match}`? "
            "(The clouds were not checked for an extra dimension of this name.)",
        )


def _near_miss(name: str, known: tuple[str, ...]) -> str | None:
    if name.lower() in (other.lower() for other in known):
        return None
    return closest(name, known, _SIMILARITY)
