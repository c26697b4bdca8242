"""Truncated backpropagation through time: policies, and the driver that carries them out."""

from ..credit.policy import Policy as Policy
from ..credit.policy import started as started
from ..credit.update import Step as Step
from ..credit.update import Update as Update
from .deciding import Adaptive as Adaptive
from .deciding import Randomized as Randomized
from .driver import Recurrence as Recurrence
from .driver import bptt as bptt
from .driver import stream as stream
from .parse import parse_policy as parse_policy
from .parse import policy_text as policy_text
from .policies import Checkpointed as Checkpointed
from .policies import Chunked as Chunked
from .policies import Decay as Decay
from .policies import Full as Full
from .policies import Windowed as Windowed
from .profile import credit_profile as credit_profile
from .report import TruncationReport as TruncationReport
from .report import recurrence_report as recurrence_report
from .report import truncation_report as truncation_report
