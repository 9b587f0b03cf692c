from . import errors as errors
from . import model as model
from .clouds.reading import read_las as read_las
from .clouds.writing import write_las as write_las
from .pipeline.loaded_run import load_run as load_run
from .pipeline.python_api import evaluate as evaluate
from .pipeline.python_api import export_kernels as export_kernels
from .pipeline.python_api import predict as predict
from .pipeline.python_api import train as train
from .spec.reader import read_spec as read_spec
from .system.version import __version__ as __version__

__all__ = [
    "__version__",
    "errors",
    "evaluate",
    "export_kernels",
    "load_run",
    "model",
    "predict",
    "read_las",
    "read_spec",
    "train",
    "write_las",
]
