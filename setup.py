"""Copy the shipped models, configs and their clouds into the built package.

Everything else about the build stands in pyproject.toml. The folders stay at the top of
the repository; in a wheel they lie in ``vl3d_lite/shipped``, where
``vl3d_lite.system.shipped`` finds them. An editable install uses the repository itself.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# `configs/quickstart.yaml` names the clouds by ../data.
SHIPPED = ("models/*/**/*", "configs/*.yaml", "data/town_*.laz")


class BuildWithShipped(build_py):
    """Build the package, then add the shipped files."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for source, target in self._shipped().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode=1):
        shipped = [] if self.editable_mode else list(self._shipped().values())
        return [*super().get_outputs(include_bytecode), *shipped]

    def _shipped(self) -> dict[str, str]:
        folder = Path(self.build_lib) / "vl3d_lite" / "shipped"
        return {
            str(path): str(folder / path.relative_to(ROOT))
            for pattern in SHIPPED
            for path in sorted(ROOT.glob(pattern))
            # Predictions that a user wrote into the folder of a model stay here.
            if path.is_file() and "predictions" not in path.relative_to(ROOT).parts
        }


setup(cmdclass={"build_py": BuildWithShipped})
