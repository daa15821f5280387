"""One frame to a result: retrieval, matching, anomaly map, verdict; and streams of frames."""
