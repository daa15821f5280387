"""Runs on a Ray cluster of three nodes on this machine, in a process of their own: ``cluster_run.py RECIPE IMAGES OUT``.

While ``OUT/kills`` is written, a worker's process is killed, and then a node with all of its processes. ``OUT/tables``
then takes up a run over Parquet files on the nodes that are left. ``OUT/told.json`` says what happened.
"""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster
from spadeline.engine import InputError, SpadelineError
from spadeline.engine.scale import run, score, worker, written

WORKER = b"MapBatches(Worker)"
POISON = "poison.png"


class Poisoned(worker.Worker):
    """A worker whose process ends at one image."""

    def score(self, batch):
        if any(path.endswith(POISON) for path in batch["path"].to_pylist()):
            os._exit(1)
        return super().score(batch)


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


def programs_of_the_page(recipe, images, folder):
    """Run the programs of the page about archives: the first one as it stands there; return both outcomes."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "archives.md"
    compared, own_pipeline = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("hazelnut", "hazelnut-wide"):
        shutil.copytree(recipe, folder / "recipes" / name)
    paths = sorted(images.iterdir())[:8]
    (folder / "november").mkdir()
    for path in paths:
        shutil.copyfile(path, folder / "november" / path.name)
    os.chdir(folder)
    names = {}
    exec(compared, names)  # noqa: S102 - the program is ours
    pq.write_table(pa.table({"path": list(map(str, paths))}), folder / "paths.parquet")
    for there, real in (
        ("s3://archive/november", folder / "paths.parquet"),
        ("recipes/hazelnut", folder / "recipes" / "hazelnut"),
        ("size=15", "size=1"),
    ):
        assert there in own_pipeline
        own_pipeline = own_pipeline.replace(there, str(real))
    exec(own_pipeline, names)  # noqa: S102 - the program is ours
    rows = sorted(names["scored"].take_all(), key=lambda row: row["path"])
    return names["comparison"].counts.in_both, (folder / "changes.html").exists(), [row["label"] for row in rows]


def workers_error(recipe, images, folder):
    """Return the error of a run whose extractor only a worker finds to be damaged."""
    shutil.copytree(recipe, folder / "recipe")
    extractor = folder / "recipe" / "extractor-1.onnx"
    content = bytearray(extractor.read_bytes())
    content[len(content) // 2] ^= 1
    extractor.write_bytes(content)
    try:
        score(folder / "recipe", images, folder / "scored")
    except SpadelineError as error:
        return type(error).__name__, str(error)


def poisoned(recipe, images, folder):
    """Return the counts and the labels of a run in which one image ends its worker each time, and that image's error."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name, path in zip(("a.png", "b.png", POISON, "x.png", "y.png"), sorted(images.iterdir()), strict=False):
        shutil.copyfile(path, source / name)
    run.Worker, run.TASKS_EACH = Poisoned, 1  # two images in a task
    counts = score(recipe, source, folder / "out", workers=1)
    run.Worker, run.TASKS_EACH = worker.Worker, 8
    rows = {Path(row["path"]).name: row for row in pq.read_table(folder / "out").to_pylist()}
    return {
        "counts": vars(counts),
        "labels": {name: row["label"] for name, row in rows.items()},
        "error": rows[POISON]["error"],
    }


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
    told["worker's error"] = workers_error(recipe, images, out / "damaged")
    told["poisoned"] = poisoned(recipe, images, out / "poisoned")
    told["programs"] = programs_of_the_page(recipe, images, out / "page")
    told["kills"] = kills(cluster, node, recipe, images, out / "kills")
    told["tables"] = tables(recipe, images, out / "tables")
    told["still connected"] = ray.is_initialized()
    (out / "told.json").write_text(json.dumps(told))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
