"""Warnings about the clouds of a spec, before a run."""

from vl3d_lite.dataset import cloud_warnings, labeled_warnings, read_labeled_facts
from vl3d_lite.errors import ResourceError
from vl3d_lite.guide.domain import domain_warning
from vl3d_lite.spec import LoadedSpec


def read_warnings(loaded: LoadedSpec, threads: int) -> list[str]:
    """Read the clouds of a spec, and find what may be wrong with them.

    What clouds hold and how they differ is checked only beside training clouds.

    Args:
        loaded: The spec, with the files of its clouds.
        threads: Threads of neighbor searches.

    Returns:
        One text per warning.

    Raises:
        DataError: A cloud cannot be used.
    """
    warnings = cloud_warnings(loaded.spec, loaded.clouds)
    if loaded.clouds["train"]:
        warnings += read_labeled_warnings(loaded, threads)
        warnings += filter(None, [domain_warning(loaded, threads)])
    return warnings


def read_labeled_warnings(loaded: LoadedSpec, threads: int) -> list[str]:
    """Read the labeled clouds of a spec, and find what is wrong with what they hold.

    Args:
        loaded: The spec, with the files of its clouds.
        threads: Threads of neighbor searches.

    Returns:
        One sentence per warning; where memory is short, one that nothing was checked.

    Raises:
        DataError: A cloud cannot be used.
    """
    try:
        facts = [
            read_labeled_facts(path, group, loaded.spec, threads)
            for group in ("train", "validation")
            for path in loaded.clouds[group]
        ]
    except ResourceError as error:
        return [f"densities, features and labels were not checked: {error}"]
    return labeled_warnings(loaded.spec, facts)
