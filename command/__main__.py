"""``python -m spadeline.command`` runs the same command, for use where its script isn't on the PATH."""

from spadeline.command import main

main()
