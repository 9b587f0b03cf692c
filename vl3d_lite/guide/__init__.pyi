from .doctor import describe_findings as describe_findings
from .doctor import examine_installation as examine_installation
from .doctor import installation_works as installation_works
from .init.init import propose_spec as propose_spec
from .plan.plan import plan_run as plan_run
from .plan.text import plan_text as plan_text
from .vl3d.convert import convert as convert
