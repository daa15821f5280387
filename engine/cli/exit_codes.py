"""Exit codes of the command ``spadeline``."""

NORMAL = 0  # done; of predict: no image is anomalous
ANOMALOUS = 1  # predict found an anomalous image; nothing else ends with this code
FAILED = 2  # an error, told in one sentence, or a fault of spadeline's own, told by a traceback
INTERRUPTED = 130  # by Ctrl-C: the code that shells give to a command that SIGINT has ended
