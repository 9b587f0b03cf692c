from .cloud import PointCloud as PointCloud
from .files import find_clouds as find_clouds
from .header_check import read_header as read_header
from .reading import LasSummary as LasSummary
from .reading import describe_las as describe_las
from .reading import read_las as read_las
from .rewriting import ExtraDimension as ExtraDimension
from .writing import write_las as write_las
