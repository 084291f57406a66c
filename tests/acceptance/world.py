"""What all examples of the driver share: the daemon, and what was done to it."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.acceptance.agents import make_profiles
from tests.acceptance.certain import Certain
from tests.acceptance.trouble import Trouble
from tests.harness.daemon import Daemon


class TimeOver(BaseException):
    """Ends the whole run; no Exception, since it is no failure."""


@dataclass
class World:
    """The daemon that all examples share, what is done to it, and until when."""

    own: Daemon
    dice: random.Random
    deadline: float
    operations: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    # How calls of tools ended, and approvals.
    calls: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    connections: int = 0
    looks: int = 0
    examples: int = 0
    # What the first failure was; from then on the time does not matter.
    failure: str = ""

    def __post_init__(self) -> None:
        self.client = Certain(self.own.url)
        self.trouble = Trouble(self.own, self.dice)
        make_profiles(self.own)

    def is_over(self) -> bool:
        """Tell whether the time is over; an example that failed may be repeated after it."""
        return not self.failure and time.monotonic() > self.deadline
