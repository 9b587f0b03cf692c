import importlib

import pytest

from vl3d_lite.errors import ResourceError
from vl3d_lite.geometry import open3d as open3d_support


def test_an_open3d_that_cannot_load_names_what_to_install(monkeypatch):
    def fail(name):
        raise ImportError(f"{name}: libusb-1.0.so.0: cannot open shared object file")

    monkeypatch.setattr(open3d_support.importlib, "import_module", fail)
    with pytest.raises(ResourceError, match=r"libusb-1.0.so.0.*pip install open3d"):
        open3d_support.load_open3d()


def test_a_missing_libusb_package_leaves_it_to_the_system(monkeypatch):
    def load(name):
        if name == "libusb_package":
            raise ImportError(name)
        return importlib

    monkeypatch.setattr(open3d_support.importlib, "import_module", load)
    assert open3d_support.load_open3d() is importlib
