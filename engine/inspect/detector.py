"""The Detector: a recipe opened to inspect frames one by one, in batches or as a stream.

A frame's scores come from a chain (``chains.py``), its verdict from a judge (``verdict.py``). A stream's frames are
shared out among workers in ``stream.py`` and ``workers.py``. Thresholds are made in ``fitting/thresholds.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice
from ..errors import InputError
from ..extract.providers import Device
from ..images.resizing import Color, as_rgb, place
from ..recipe.held import GalleryPlace
from ..recipe.recipe import Recipe
from ..resources import processors
from ..result import Result
from ..settings import Need
from .chains import Chain
from .opening import open_chain
from .overlay import overlay
from .scores import Asked, deadline_in
from .scoring import warn_of_clamping
from .stream import Arrived, FrameError, check_not_single, run_stream
from .verdict import Judge
from .workers import Predict, Split

Frame = NDArray[np.uint8]


class Detector:
    """A recipe ready to inspect frames. Open one with :meth:`load`; it may be called from several threads.

    Attributes
    ----------
    recipe
        The recipe as it was when opened.
    extractor
        The feature extractor.
    """

    def __init__(self, chain: Chain, *, workers: int | None = None, judge: Judge | None = None) -> None:
        self.recipe = chain.recipe
        self.extractor = chain.extractor
        self._chain = chain
        self._judge = judge or Judge(chain.recipe, chain.scorer)
        self._split = Split(
            threads=chain.scorer.matcher.threads,
            worker_threads=chain.worker_threads,
            most=chain.most_workers,
            given=workers,
            open_members=partial(_members, chain, self._judge),
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
        memory_limit: int | None = None,
        tensorrt_cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        gallery: GalleryPlace = "auto",
        verify: bool = False,
    ) -> Self:
        """Open a recipe for inspection.

        Parameters
        ----------
        folder
            The recipe.
        device
            Where the extractor and the matcher run. ``"cuda"``: both on the GPU, or an error. ``"auto"``: on the GPU
            what can run there; :attr:`info` tells what was taken. It is decided once, by this call.
        threads
            For ONNX Runtime, the matcher, faiss and OpenCV; None: the processors that this process may use. OpenCV's
            number of threads holds for the whole process.
        memory_limit
            Bytes of the GPU's memory that the gallery may take: see :class:`.matcher.Matcher`.
        tensorrt_cache
            A folder for TensorRT's engine, which then runs the extractor: see :class:`.extractor.Extractor`.
        workers
            Frames that a :meth:`stream` has in work at once: 1 to ``threads``, on a GPU 1 or 2. None: the largest
            number, until :meth:`warm_up` has found the fastest one.
        gallery
            ``"memory"``: the gallery is read into this process's memory, and each file's SHA-256 is compared. What
            happens to the files afterwards changes no result. ``"mapped"``: the gallery stays in its files. That starts
            sooner, and all processes that map the files share their memory. Such files must never be written into: a
            copy over them changes results without notice, and a file that is cut off ends the process. ``"auto"``:
            memory if the gallery takes at most half of what is available; else mapped, with a warning. The extractor is
            always held in memory.
        verify
            Also read every file through, mapped ones included: compare its SHA-256, and check that all features are
            finite and that the stored scores give the thresholds.

        Raises
        ------
        InputError
            An unknown device or gallery, threads or workers out of range, an option for a GPU beside device "cpu", or a
            gallery that doesn't fit in memory.
        RecipeError
            Not a recipe, a damaged one, one without thresholds, or one whose kappa is larger than the number of gallery
            pixels within reach.
        ExtractorError
            Its extractor can't run, or not on this device.
        DeviceError
            The matcher or the retrieval can't run on the GPU that was asked for.
        OutputError
            The folder for TensorRT's engine can't be made.
        DependencyError
            ONNX Runtime or faiss isn't installed.

        Examples
        --------
        >>> detector = Detector.load("recipes/hazelnut")  # doctest: +SKIP
        >>> result = detector.predict(frame)  # doctest: +SKIP
        >>> result.pred_label, result.pred_score, result.regions  # doctest: +SKIP
        """
        recipe = Recipe.load(folder, verify=verify)
        warn_of_clamping(recipe)
        threads = processors() if threads is None else threads
        chain = open_chain(
            recipe,
            device=device,
            threads=threads,
            memory_limit=memory_limit,
            tensorrt_cache=tensorrt_cache,
            gallery=gallery,
        )
        cv2.setNumThreads(threads)
        return cls(chain, workers=workers)

    @property
    def info(self) -> dict[str, Any]:
        """What runs where, fit for JSON.

        ``need`` is what results are exact in where a call doesn't say; ``rounds``, whether the needs "mask" and "label"
        end the search earlier. They don't on a GPU, nor with bilinear upsampling or without the matcher's codes: there
        all distances are computed, whatever the need.
        """
        scorer = self._chain.scorer
        return {
            "recipe": str(self.recipe.folder),
            "generation": self.recipe.generation,
            "images": len(self.recipe.images),
            "gallery": scorer.gallery.place,
            "extractor": self.extractor.provider,
            "provider_times_s": self.extractor.provider_times_s,
            "precision": self.extractor.precision,
            "neighbourhood": self.extractor.neighbourhood,
            "backbone": self.extractor.metadata.get("spadeline.backbone", "unknown"),
            "weights": self.extractor.metadata.get("spadeline.weights", "unknown"),
            "input_size": list(self.recipe.input_size),
            "levels": {
                name: list(shape) for name, shape in zip(self.recipe.level_names, self.recipe.level_shapes, strict=True)
            },
            "ignored_share": None if self.recipe.ignore is None else float(self.recipe.ignore.mean()),
            "frame_check": self._judge.info,
            "need": self.recipe.settings.need,
            "rounds": scorer.rounds,
            "chain": self._chain.place,
            "retrieval": scorer.retrieval.device,
            "matcher": scorer.matcher.path,
            "matcher_device": scorer.matcher.device,
            "resident_images": scorer.matcher.resident_images,
            "instruction_set": scorer.matcher.instruction_set,
            "threads": scorer.matcher.threads,
            "split": self._split.info,
        }

    def predict(
        self, frame: Frame, *, color: Color = "auto", need: Need | None = None, deadline_s: float | None = None
    ) -> Result:
        """Inspect one frame.

        Parameters
        ----------
        frame
            (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, any size. If extractor and matcher are on the GPU, the
            frame may lie in the GPU's memory (``__cuda_array_interface__`` or DLPack: CuPy, Numba, torch). Such a frame
            is read where it lies if it is RGB of the extractor's input size, without gaps, and the recipe's framing is
            "whole". Any other is copied to the host and resized there.
        color
            What the channels are. ``"auto"`` takes one, three or four channels as gray, RGB or RGBA. BGR must be
            declared.
        need
            What the result must be exact in: ``"map"``: everything; ``"mask"``: label, mask, and the regions' boxes and
            areas; ``"label"``: the label. None: as the recipe's settings say. The less is needed, the sooner the search
            ends; what is needed is the same as with ``"map"``, always. See :class:`Result` for the rest of it.
        deadline_s
            Seconds from this call, 0 or more, after which the search ends; None: it ends when it is done. What isn't
            known by then counts as anomalous, so a deadline can cause a false alarm, but never a miss. The result then
            says that it isn't ``decided``. Nothing but the search is cut short. A GPU keeps no deadline, and of the
            paths that have no rounds (see :attr:`info`) only the dense one does.

        Raises
        ------
        InputError
            A frame of another dtype or shape, or too small; one of other proportions than the normal images', unless
            the recipe's ``frame_shape`` allows it; one whose scores aren't finite. An unknown need, or a deadline that
            isn't a finite number of 0 or more.
        """
        deadline = deadline_in(deadline_s)
        return self._predict(frame, color=color, need=self._checked(need), deadline=deadline)

    def predict_batch(
        self,
        frames: Sequence[Frame],
        *,
        color: Color = "auto",
        need: Need | None = None,
        deadline_s: float | None = None,
    ) -> list[Result]:
        """Inspect several frames; the results equal :meth:`predict`'s, and so do the errors.

        Parameters
        ----------
        frames
            Each as for :meth:`predict`, of any size; or one array of them, (n, h, w, channels).
        color, need
            As for :meth:`predict`.
        deadline_s
            As for :meth:`predict`. It counts from this call for each of the frames, which are inspected one after the
            other.

        Raises
        ------
        InputError
            ``frames`` isn't a sequence, or :meth:`predict` refuses one of them.
        """
        deadline = deadline_in(deadline_s)
        return self._inspect(_as_list(frames), color=color, need=self._checked(need), deadline=deadline)

    def stream(
        self,
        frames: Iterable[Frame],
        *,
        depth: int | None = None,
        color: Color = "auto",
        need: Need | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[Result | FrameError]:
        """Inspect frames as they come, several at once; yield a result for each, in order, equal to :meth:`predict`'s.

        A stream inspects more frames a second than predict, but each frame takes longer: of several workers, each has
        one thread. A frame that can't be inspected yields a :class:`FrameError` in place of a result, and the stream
        goes on.

        Parameters
        ----------
        frames
            Any iterable, such as a camera's generator. A separate thread asks it for the next frame, at most ``depth``
            frames ahead of the results. A frame must not be changed before its result has come. An exception of the
            iterable is raised to the caller, after the results of the frames before it.
        depth
            Frames asked for and without a result yet: 1 to ``stream.DEEPEST``; None: two for each worker.
        color, need
            As for :meth:`predict`.
        deadline_s
            As for :meth:`predict`, but it counts from each frame's arrival: when the iterable delivered it. A frame
            that was read ahead waits for a worker, and this counts.

        Yields
        ------
        Result or FrameError
            Closing the stream ends its threads. Frames in work are finished, and up to ``depth`` frames that were asked
            for get no result. To get all results, let the iterable end instead. If the iterable was asked for a frame,
            closing waits for that frame, up to ``stream.LONGEST_PULL_S`` seconds.

        Raises
        ------
        InputError
            At the call: a depth, color, need or deadline that isn't allowed, frames that can't be iterated over, a
            single frame.

        Examples
        --------
        >>> for result in detector.stream(camera):  # doctest: +SKIP
        ...     if isinstance(result, FrameError):
        ...         print(result.index, result.error)
        ...     elif result.pred_label:
        ...         reject(result.regions)
        """
        check_choice("color", color, get_args(Color))
        need = self._checked(need)
        deadline_in(deadline_s)  # a wrong one is refused here, and not in each frame's place
        workers, predict = self._split.workers(self._predict)

        def receive(frame: Any) -> Arrived:
            deadline = deadline_in(deadline_s)
            return Arrived(self._chain.receive(frame), deadline)

        def inspect(arrived: Arrived) -> Result:
            return predict(arrived.frame, color=color, need=need, deadline=arrived.deadline)

        return run_stream(inspect, frames, workers=workers, depth=depth, receive=receive)

    def warm_up(self, frames: Sequence[Frame], *, color: Color = "auto", need: Need | None = None) -> None:
        """Make all buffers, and find the fastest number of workers for :meth:`stream`; it takes seconds.

        :attr:`info` tells the number chosen, and the frames a second of each number tried. If ``workers`` was given,
        that number stays.

        Parameters
        ----------
        frames
            One or more typical frames: time depends on what they show.
        color, need
            As for the streams that follow. There is no deadline here, since cutting frames short is no speed.

        Raises
        ------
        InputError
            ``frames`` isn't a sequence, or is empty, or :meth:`predict` refuses one of them.
        """
        frames = _as_list(frames)
        if not frames:
            raise InputError("frames: expected at least one, got none")
        how: dict[str, Any] = {"color": color, "need": self._checked(need), "deadline": None}
        for frame in frames:
            self._predict(frame, **how)
        self._split.choose(self._predict, frames, how)

    def overlay(self, frame: Frame, result: Result, *, color: Color = "auto") -> Frame:
        """Draw a frame's anomaly map, the mask's outline and the regions over it.

        Colours are scaled by theta, so that two frames' pictures can be compared. What the recipe ignores is darkened
        and hatched. A map that isn't exact is drawn as its upper bound, and one that the label didn't need isn't drawn.

        Returns
        -------
        ndarray
            (h, w, 3) uint8 RGB, the frame's size.
        """
        rgb = as_rgb(frame, color=color)
        _, placement = place(rgb, self.recipe.input_size, framing=self.recipe.settings.framing)
        unsearched = result.map_score > self._judge.theta and not result.pred_mask.any()
        return overlay(
            rgb,
            result.lower_map if unsearched else result.anomaly_map,
            self._judge.theta,
            placement=placement,
            regions=result.regions,
            ignore=self.recipe.ignore,
        )

    def _checked(self, need: Need | None) -> Need:
        """Return what a call needs: by its argument, or by the recipe."""
        if need is None:
            return self.recipe.settings.need
        check_choice("need", need, get_args(Need))
        return need

    def _predict(self, frame: Any, *, color: Color, need: Need, deadline: float | None) -> Result:
        return self._inspect([frame], color=color, need=need, deadline=deadline)[0]

    def _inspect(self, frames: Sequence[Any], *, color: Color, need: Need, deadline: float | None) -> list[Result]:
        asked = Asked(need, deadline, self._judge.label_known)
        return [self._judge.result(scored, need) for scored in self._chain.score(frames, color, asked)]


def _as_list(frames: Any) -> list[Frame]:
    """Return the frames of a sequence as a list: some sequences can't be sliced."""
    check_not_single(frames)
    if isinstance(frames, Mapping) or not (hasattr(frames, "__len__") and hasattr(frames, "__getitem__")):
        raise InputError(f"frames: expected a sequence of frames, got {type(frames).__name__}")
    return list(frames)


def _members(chain: Chain, judge: Judge, count: int) -> list[Predict]:
    """Open a detector of one thread for each of ``count`` workers; none if the chain serves all workers itself."""
    return [Detector(member, judge=judge)._predict for member in chain.one_threaded(count)]  # noqa: SLF001 - our own
