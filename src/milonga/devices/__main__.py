"""``python -m milonga.devices INSTANCE`` runs a device server."""

from milonga.devices._server import main

if __name__ == "__main__":
    main()
