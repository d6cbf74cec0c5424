"""A provider in a box: every dialect over real HTTP, with scripted faults and its own honest log.

It is the demo's upstream, the drill's engine and the tests' oracle: one program. A model's name
chooses how it behaves (`BEHAVIOURS`); the log says what it truly charged, whatever it told.
"""

from modelspend.simulator.behaviours import BEHAVE_HEADER, BEHAVIOURS
from modelspend.simulator.server import REPLAY_HEADER, Recorded, Simulator

__all__ = ["BEHAVE_HEADER", "BEHAVIOURS", "REPLAY_HEADER", "Recorded", "Simulator"]
