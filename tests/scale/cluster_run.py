"""Runs on a Ray cluster of three nodes on this machine, in a process of their own: ``cluster_run.py RECIPE IMAGES OUT``.

While ``OUT/kills`` is written, a worker's process is killed, and then a node with all of its processes. ``OUT/tables``
then takes up a run over Parquet files on the nodes that are left. Prints what happened as JSON.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster
from spadeline.engine import InputError
from spadeline.engine.scale import score, written

WORKER = b"MapBatches(Worker)"


def workers():
    """Return the ids of the workers' processes."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if WORKER in line.read_bytes():
                found.append(int(line.parent.name))
        except OSError:  # it has ended
            pass
    return found


def kills(cluster, node, recipe, images, out):
    """Score while a worker is killed after a fifth of the images, and a node after half of them."""
    happened = []

    def on_progress(stage, done, total):
        if not happened and 5 * done >= total:
            (victim, *_) = workers()
            os.kill(victim, signal.SIGKILL)
            happened.append({"killed": "worker", "after": done})
        elif len(happened) == 1 and 2 * done >= total:
            cluster.remove_node(node, allow_graceful=False)
            happened.append({"killed": "node", "after": done})

    counts = score(recipe, images, out, workers=2, on_progress=on_progress)
    return {"counts": vars(counts), "happened": happened}


def tables(recipe, images, out):
    """Score Parquet files, first only those of one file."""
    paths = sorted(images.iterdir())
    folder = out.parent / "source"
    folder.mkdir()
    for name, part in (("2", paths[20:]), ("1", paths[:20])):
        content = {"path": [path.name for path in part], "bytes": [path.read_bytes() for path in part]}
        pq.write_table(pa.table(content), folder / f"{name}.parquet", row_group_size=7)
        counts = score(recipe, folder, out, need="label", resume=True)
    return {"counts": vars(counts)}


def own_pipeline(recipe, images, folder):
    """Run the program of the page about archives over a Parquet file; return the labels."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "archives.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    paths = sorted(images.iterdir())[:8]
    pq.write_table(pa.table({"path": list(map(str, paths))}), folder)
    for written_there, real in (("s3://archive/november", folder), ("recipes/hazelnut", recipe), ("size=15", "size=1")):
        assert written_there in program
        program = program.replace(written_there, str(real))
    names = {}
    exec(program, names)  # noqa: S102 - the program is ours
    return [row["label"] for row in sorted(names["scored"].take_all(), key=lambda row: row["path"])]


def refused(recipe, images, out):
    """Return the errors for more workers than there is room for, and for a cluster that isn't there."""
    errors = []
    for options in ({"workers": 3}, {"workers": 1, "threads": 2}):
        try:
            score(recipe, images, out, **options)
        except InputError as error:
            errors.append(str(error))
    return errors


def main():
    recipe, images, out = map(Path, sys.argv[1:])
    written.PART_IMAGES = 16
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    told = {"refused": refused(recipe, images, out / "refused")}
    told["own pipeline"] = own_pipeline(recipe, images, out / "paths.parquet")
    told["kills"] = kills(cluster, node, recipe, images, out / "kills")
    told["tables"] = tables(recipe, images, out / "tables")
    told["still connected"] = ray.is_initialized()
    print(json.dumps(told))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
