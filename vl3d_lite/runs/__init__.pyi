from . import provenance as provenance
from .folder import RunFolder as RunFolder
from .history import read_history as read_history
from .history import write_history as write_history
from .options import Options as Options
from .provenance import package_versions as package_versions
