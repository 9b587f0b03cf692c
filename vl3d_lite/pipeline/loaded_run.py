"""A trained run in memory: its network, ready to classify arrays."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from vl3d_lite.clouds import PointCloud
from vl3d_lite.dataset import (
    BYTES_PER_POINT,
    SweepBatches,
    dimensions_to_read,
    exclusion,
    impute_constant_features,
    prepare_cloud,
)
from vl3d_lite.errors import DataError
from vl3d_lite.model import prepare_backend
from vl3d_lite.pipeline.opening import load_network, open_calibration, open_run
from vl3d_lite.prediction import Classifier, Inference
from vl3d_lite.runs import Options, find_run
from vl3d_lite.spec import Spec
from vl3d_lite.system import Interrupts, require_memory, thread_count

NAME = "the cloud"  # in messages, where a file has its name
STEPS = (1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6)  # usual LAS scales, in meters
# Below 1e7 m, the largest coordinates in use, float64 is exact to 2e-9 m.
ROUNDING = 5e-9


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A trained run, loaded once, that classifies any number of clouds.

    Attributes:
        spec: The spec of the run.
        class_names: ``C`` names, in the order of the class indices.
        codes: ``(C,)`` uint8 LAS code of each class: ``codes[class_indices]``
            are the codes that ``vl3d-lite predict`` writes.
        dimensions: Names of the attributes that `classify` uses. It needs all but
            those of excluded points (``classification``, ``withheld``).
        classifier: The network with its scaling and calibration.
    """

    spec: Spec = field(repr=False)
    class_names: tuple[str, ...]
    codes: np.ndarray
    dimensions: tuple[str, ...]
    classifier: Classifier = field(repr=False)

    @property
    def model(self) -> keras.Model:
        """The network: tensors of a batch of fields in, logits out."""
        return self.classifier.inference.model

    def classify(
        self,
        xyz: np.ndarray,
        attributes: Mapping[str, np.ndarray] | None = None,
        *,
        missing: Collection[str] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classify the points of one cloud.

        The result equals the output of ``vl3d-lite predict`` for a LAS file with
        these points. `classify` ignores ``prediction.min_confidence`` and
        ``prediction.keep_codes`` of the spec.

        Args:
            xyz: ``(n, 3)`` float, in meters; world coordinates or local ones.
            attributes: Name to ``(n,)`` values, at least for `dimensions`;
                named and scaled as in a LAS file (``intensity``,
                ``return_number``, ``number_of_returns``). With
                ``classification`` and ``withheld``, points of
                ``excluded_points`` in the spec, such as noise, are kept from
                the network; without, no point is.
            missing: Names of attributes whose NaN stand for missing values, such as
                the ``missing`` of a cloud from `read_las`: its declared no-data.

        Returns:
            Class index of each point, ``(n,)`` int32; and calibrated
            probabilities, ``(n, C)`` float32, whose rows sum to 1. Both are in
            the order of `xyz`.

        Raises:
            DataError: `xyz` or an attribute has the wrong shape, is missing or
                not finite.
            ResourceError: The cloud does not fit into memory.

        Example:
            >>> import vl3d_lite
            >>> run = vl3d_lite.load_run("runs/town", quiet=True)
            >>> cloud = vl3d_lite.read_las("scan.laz", dimensions=run.dimensions)
            >>> classes, probabilities = run.classify(cloud.xyz, cloud.attributes)
            >>> classes.shape, probabilities.shape
            ((6000,), (6000, 3))
        """
        cloud = _cloud(xyz, attributes or {}, self.spec)
        cloud.missing = frozenset(missing)
        sweep = functools.partial(self._sweep, cloud)
        voted = self.classifier.vote(Path(NAME), sweep, "classifying")
        prediction = voted.prediction.calibrated(self.classifier.temperature)
        cells = voted.cell_of_point
        return prediction.class_index[cells], prediction.probabilities[cells]

    def _sweep(self, cloud: PointCloud, source: Path, grid: int) -> SweepBatches:
        prepared = prepare_cloud(
            cloud, self.spec, grid=grid, threads=self.classifier.options.threads
        )
        prepared = impute_constant_features(
            source, prepared, self.spec, self.classifier.scaling, warn=grid == 0
        )
        return self.classifier.sweep(source, grid, prepared)


def load_run(
    run_folder: str | Path,
    *,
    overrides: Sequence[str] = (),
    threads: int | None = None,
    quiet: bool = True,
) -> LoadedRun:
    """Load a trained run to classify NumPy arrays with it.

    Args:
        run_folder: Folder of a trained run, or the name of a shipped model.
        overrides: Changes of the spec, ``"prediction.<key>=<value>"`` each.
        threads: Processors to use; by default all that the process may use.
        quiet: No progress bars.

    Returns:
        The run, with ``.model``, ``.spec`` and ``.classify(xyz, attributes)``.

    Raises:
        SpecError: An override is invalid.
        DataError: The folder is not a trained run of this version.

    Example:
        >>> import vl3d_lite
        >>> run = vl3d_lite.load_run("runs/town")
        >>> run.class_names
        ('ground', 'vegetation', 'building')
        >>> run.codes.tolist()
        [2, 5, 6]
        >>> run.dimensions[:3]
        ('return_number', 'number_of_returns', 'intensity')
        >>> run.dimensions[3:]  # of noise and withheld points
        ('classification', 'withheld')
    """
    run = find_run(Path(run_folder))
    spec, scaling = open_run(run, overrides)
    temperature = open_calibration(run, spec)
    options = Options(threads=thread_count(threads), quiet=quiet)
    prepare_backend(spec.seed, options.threads)
    inference = Inference(load_network(run, spec, scaling), spec)
    return LoadedRun(
        spec=spec,
        class_names=tuple(spec.class_names),
        codes=np.array([entry.code for entry in spec.classes.values()], np.uint8),
        dimensions=tuple(
            dict.fromkeys((*dimensions_to_read(spec), *exclusion(spec).dimensions))
        ),
        # Interrupts that catch no signal: Ctrl-C raises KeyboardInterrupt here.
        classifier=Classifier(
            inference, spec, scaling, options, Interrupts(), temperature
        ),
    )


def _cloud(
    xyz: np.ndarray, attributes: Mapping[str, np.ndarray], spec: Spec
) -> PointCloud:
    """Arrays of a caller as the cloud that reading a LAS file gives."""
    xyz = np.asarray(xyz, np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz):
        raise DataError(
            "`xyz` must have the shape (n, 3) with at least one point. "
            f"Received: {xyz.shape}"
        )
    if not np.isfinite(xyz).all():
        point = int(np.argmin(np.isfinite(xyz).all(axis=1)))
        raise DataError(
            f"`xyz` must be finite (meters). Received: {xyz[point]} at point {point}"
        )
    needed = list(dimensions_to_read(spec))
    missing = [name for name in needed if name not in attributes]
    if missing:
        raise DataError(
            f"`attributes` must hold {', '.join(needed)}. "
            f"Received: {', '.join(attributes) or 'none'}; add {', '.join(missing)}"
        )
    hiding = exclusion(spec)
    names = dict.fromkeys((*needed, *hiding.dimensions))
    used = {n: np.asarray(attributes[n]) for n in names if n in attributes}
    for name, values in used.items():
        if values.shape != (len(xyz),):
            raise DataError(
                f"`attributes[{name!r}]` must have the shape ({len(xyz)},), one value "
                f"per point. Received: {values.shape}"
            )
    require_memory(
        len(xyz) * BYTES_PER_POINT,
        f"classifying {len(xyz):,} points",
        "classify smaller tiles, or use a machine with more memory",
    )
    excluded = hiding.mask(used, len(xyz))
    origin = (xyz if excluded.all() else xyz[~excluded]).min(axis=0)
    local = np.stack([_stored_steps(axis) for axis in (xyz - origin).T], axis=1)
    used = {name: used[name] for name in needed}
    mask = excluded if excluded.any() else None
    return PointCloud(local, origin, used, name=NAME, excluded=mask)


def _stored_steps(values: np.ndarray) -> np.ndarray:
    """Distances along an axis without the rounding of world coordinates.

    LAS files store whole steps. The coarsest usual step that explains all values
    gives the very floats that `read_las` computes, so cells and neighbors agree.
    Values that are no whole steps remain as they are.
    """
    for step in STEPS:
        restored = np.rint(values / step) * step
        if np.abs(restored - values).max() <= ROUNDING:
            return restored
    return values
