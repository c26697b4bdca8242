"""Several processes that train one model: sums over them, what they send, what that costs, and what if one dies."""

from .group import Group as Group
from .group import LostError as LostError
from .group import group_of as group_of
from .shares import Share as Share
from .shares import joined_state as joined_state
from .shares import share_of as share_of
