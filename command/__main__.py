"""``python -m spadeline.command``: the same command, where its script isn't on the path."""

from spadeline.command import main

main()
