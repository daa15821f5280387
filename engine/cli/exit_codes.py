"""Exit codes of the command ``spadeline``."""

NORMAL = 0  # the command is done; after predict: no image is anomalous
ANOMALOUS = 1  # predict found an anomalous image; no other outcome has this code
FAILED = 2  # an error, which is printed in one sentence, or a fault of spadeline itself, which prints a traceback
INTERRUPTED = 130  # Ctrl-C: the code that shells give to a command that SIGINT has ended
