"""The meaning of the codes of a cloud: classes, partial labels, ignored codes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vl3d_lite.clouds import names_cloud
from vl3d_lite.spec.schema.labels import CloudGroupSpec, class_indices
from vl3d_lite.spec.schema.spec import CLOUD_GROUPS, Spec

Members = frozenset[int]  # indices of the classes that a label may be


@dataclass(frozen=True)
class CloudLabels:
    """How the labels of a cloud are read.

    Args:
        dimension: The dimension that holds the codes.
        codes: Each class, then each partial label of the spec, in the order of the
            label index, to its codes in the cloud.
    """

    dimension: str
    codes: dict[str, list[int]]


def cloud_labels(spec: Spec, path: Path | None) -> CloudLabels:
    """How the labels of a cloud are read: by its group of clouds, or by the spec.

    Args:
        spec: From `read_spec`, so that the paths of its clouds are absolute.
        path: The cloud; it need not exist. None for a cloud without a file.
    """
    group = None if path is None else group_of(spec, path)
    codes = codes_of_group(spec, group)
    named = dict(zip(label_names(spec), _label_members(spec), strict=True))
    return CloudLabels(
        spec.labels_of(group).dimension,
        {name: codes.get(members, []) for name, members in named.items()},
    )


def codes_of_group(
    spec: Spec, group: CloudGroupSpec | None
) -> dict[Members, list[int]]:
    """Codes in a group of clouds, or elsewhere, by the classes that they may be."""
    codes = _by_members(spec, spec.class_codes)
    codes = _laid_over(codes, _by_members(spec, spec.labels.codes), ())
    if group is None:
        return codes
    return _laid_over(codes, _by_members(spec, group.codes), group.ignore)


def group_of(spec: Spec, path: Path) -> CloudGroupSpec | None:
    """The group of clouds with codes of its own that a cloud belongs to, or None."""
    for group in cloud_groups(spec):
        if any(names_cloud(pattern, path) for pattern in group.files):
            return group
    return None


def cloud_groups(spec: Spec) -> Iterator[CloudGroupSpec]:
    """The groups of clouds with codes of their own, each as the spec names it."""
    for name in CLOUD_GROUPS:
        for entry in getattr(spec.clouds, name):
            if isinstance(entry, CloudGroupSpec):
                yield entry


def has_groups(spec: Spec) -> bool:
    """Whether some clouds of a spec have codes of their own."""
    return any(group.codes or group.ignore for group in cloud_groups(spec))


def is_named(spec: Spec, path: Path) -> bool:
    """Whether a list of clouds of a spec names a cloud."""
    return any(
        names_cloud(pattern, path)
        for name in CLOUD_GROUPS
        for pattern in spec.clouds.patterns(name)
    )


def partial_labels(spec: Spec) -> list[tuple[int, ...]]:
    """Class indices of each partial label, in the order of the label index.

    The label index of the first is the number of classes. The first class of each is
    the one that the spec names first.
    """
    found: dict[frozenset[int], tuple[int, ...]] = {}
    for codes in (spec.labels.codes, *(group.codes for group in cloud_groups(spec))):
        for name in codes:
            indices = class_indices(name, spec.class_names) or ()
            # A label that may be any class holds no information: ignored.
            if 1 < len(indices) < len(spec.classes):
                found.setdefault(frozenset(indices), indices)
    return list(found.values())


def label_names(spec: Spec) -> list[str]:
    """Names of the classes, then of the partial labels: ``vegetation or other``."""
    names = spec.class_names
    return [*names, *(" or ".join(names[n] for n in p) for p in partial_labels(spec))]


def _label_members(spec: Spec) -> list[Members]:
    """The class indices of each label index."""
    classes = [frozenset((index,)) for index in range(len(spec.classes))]
    return [*classes, *map(frozenset, partial_labels(spec))]


def _by_members(
    spec: Spec, codes: Mapping[str, Sequence[int]]
) -> dict[Members, list[int]]:
    result: dict[Members, list[int]] = {}
    for name, own in codes.items():
        members = frozenset(class_indices(name, spec.class_names) or ())
        result.setdefault(members, []).extend(own)
    return result


def _laid_over(
    codes: Mapping[Members, Sequence[int]],
    top: Mapping[Members, Sequence[int]],
    ignored: Sequence[int],
) -> dict[Members, list[int]]:
    """Codes by label, where labels and codes of `top` have no other meaning."""
    taken = {code for own in top.values() for code in own} | set(ignored)
    below = {
        label: [code for code in own if code not in taken]
        for label, own in codes.items()
        if label not in top
    }
    return {**below, **{label: list(own) for label, own in top.items()}}
