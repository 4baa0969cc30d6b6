"""``python -m milonga.testing INSTANCE`` runs the server for faulty devices."""

from milonga.testing._server import main

main()
