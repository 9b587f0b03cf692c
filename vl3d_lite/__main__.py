"""`python -m vl3d_lite` is `vl3d-lite`."""

from vl3d_lite.cli import main

if __name__ == "__main__":
    main()
