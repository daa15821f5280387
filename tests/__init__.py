"""The tests. Where several processes run them side by side, each library keeps to one thread in each process.

Otherwise every process's libraries start as many threads as there are processors, and wait for each other.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
