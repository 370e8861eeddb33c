from analysis import *  # noqa: F403
from pipeline import *  # noqa: F403
from storage import *  # noqa: F403
