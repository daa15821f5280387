"""What tests of streams share: frames, and a stand-in for predict."""

import threading

import numpy as np

from ..conftest import part

FRAMES = [part(300)[0], part(301, scratched=True)[0], part(302, size=70)[0], part(303, scratched=True, size=128)[0]]
BAD = np.zeros((32, 32, 3), np.float32)
SOON_S = 10.0  # what must happen has happened by then, on the slowest machine


class Inspection:
    """Stands for predict: returns a frame once the test has opened its gate, and counts the frames in work."""

    def __init__(self):
        self.gates = {}
        self.started = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, frame):
        with self._lock:
            self.started.append(frame)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.gates[frame].wait(SOON_S) if frame in self.gates else True
        with self._lock:
            self.at_once -= 1
        return frame
