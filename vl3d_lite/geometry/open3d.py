"""Load Open3D only where it is used."""

import ctypes
import importlib
from types import ModuleType

from vl3d_lite.errors import ResourceError

SYSTEM_PACKAGES = "libusb-1.0-0 libgl1 libgomp1 libx11-6"


def load_open3d() -> ModuleType:
    """Import Open3D, which needs the library libusb.

    The package ``libusb-package`` contains that library; it is loaded first where it
    is installed, since bare systems lack it.

    Raises:
        ResourceError: Open3D or a system library it needs is not installed.
    """
    try:
        package = importlib.import_module("libusb_package")
        ctypes.CDLL(str(package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    except (ImportError, OSError):
        pass  # the system may have its own; otherwise the import below fails
    try:
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise ResourceError(
            f"Open3D cannot be loaded: {error}. Install it by `pip install open3d "
            f"libusb-package`, and on Debian or Ubuntu {SYSTEM_PACKAGES}"
        ) from error
