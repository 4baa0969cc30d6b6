"""``python -m milonga.devices INSTANCE`` runs a device server."""

from milonga.devices import main

if __name__ == "__main__":
    main()
