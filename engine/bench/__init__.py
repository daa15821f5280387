"""A recipe's speed on this machine: latency, throughput, start, the takt, and advice."""
