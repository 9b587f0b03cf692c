"""The program: what must precede every other import."""

import sys

from vl3d_lite.errors import ResourceError
from vl3d_lite.system import catch_signals, remove_drafts, require_address_space


def main() -> None:
    """Run `vl3d-lite`; `python -m vl3d_lite` is the same."""
    try:
        require_address_space()
    except ResourceError as error:  # even NumPy could not be imported
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    catch_signals(remove_drafts)
    from vl3d_lite.cli import main as run

    run()


if __name__ == "__main__":
    main()
