"""`python -m analysis`."""

from analysis.command_line import group
from pipeline.command_line import run

if __name__ == "__main__":
    run(group)
