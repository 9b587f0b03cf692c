"""Warnings about what the training and validation clouds of a spec hold."""

from vl3d_lite.dataset import labeled_warnings, read_labeled_facts
from vl3d_lite.errors import ResourceError
from vl3d_lite.spec import LoadedSpec


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
