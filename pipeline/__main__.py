"""`python -m pipeline`."""

from pipeline.command_line import group, run

if __name__ == "__main__":
    run(group)
