"""``python -m milonga`` is the command line."""

from milonga.cli import main

if __name__ == "__main__":
    main()
