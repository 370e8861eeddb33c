"""`python -m patchdict`, which is the installed `patchdict` command too."""

from analysis.command_line import main

if __name__ == "__main__":
    main()
