"""What is known of fits before their first pass: what they take of the memory, and how they run.

Each part's need is told by what allocates it (seeding, the engine); here it is added up, compared
with the caps, and refused where it does not fit. The number of rows is not in it, but where the
scratch file of an engine lies in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pipeline.runtime.memory
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.engines.engine import GAP_BLOCKS
from pipeline.execution.blocks import BlocksOnWorkers
from pipeline.execution.connection import starting_bytes
from pipeline.execution.device_shares import device_share
from pipeline.execution.gather import StoreOnWorkers
from pipeline.execution.preflight import Requirements
from pipeline.execution.scheduler import WORKER_BYTES, Scheduler
from pipeline.execution.shards import shards_of, sums_bytes
from pipeline.kmeans import seeding
from pipeline.kmeans.breathing import most_centroids
from pipeline.kmeans.d2_trials import kernels_for
from pipeline.rows.source import READ_AHEAD, RowSource, StoreSource, blocks_ahead
from pipeline.runtime.devices import device_budget
from pipeline.runtime.kernel_cache import code_bytes
from pipeline.runtime.memory import (
    check_budget,
    device_refusal,
    fits,
    in_words,
    keep_no_gaps,
)
from pipeline.runtime.progress import Progress
from storage.errors import InputError
from storage.mapped_files import lies_in_memory, scratch_folder

GAPS = 8  # one byte for so many is lost between blocks of the heap
_COVARIANCES = 6  # matrices of their size that whitening takes as it is learned; 5.5 were measured


@dataclass(frozen=True)
class FitPlan:
    """How dictionaries of one source are fitted.

    Attributes:
        source, options, engine, scheduler, scratch: as for `make`.
        largest: the most centroids that are asked for.
        blocks: of the source that are taken at once.
        tight: whether large arrays are mapped apart, see `keep_no_gaps`.
        projected: bytes that the process tree takes at most; None: no cap was given.
        device_share: cap on what each process takes of the device's memory, bytes; None: see
            `EngineSpec.make`.
        notes: what people are told of it, a line each.
    """

    source: RowSource
    options: FitOptions
    engine: EngineSpec
    scheduler: Scheduler
    largest: int
    blocks: int
    scratch: Path
    tight: bool = False
    projected: int | None = None
    device_share: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def make(
        cls,
        source: RowSource,
        sizes: Sequence[int],
        options: FitOptions,
        engine: EngineSpec,
        scheduler: Scheduler,
        *,
        scratch: Path | None = None,
        memory: int | None = None,
        device_memory: int | None = None,
        heldout_rows: int = 0,
    ) -> "FitPlan":
        """The plan of fits of one source.

        Args:
            source: of the rows.
            sizes: how many centroids are asked for, each a fit.
            options: of the fits.
            engine: of their passes.
            scheduler: where whole passes run, for a patch store; all else runs here.
            scratch: folder for what is kept of the rows between passes; None: see `scratch_folder`.
            memory: cap on the resident memory of the process tree, bytes; None: no cap.
            device_memory: see `EngineSpec.make`; processes that this machine starts share it.
            heldout_rows: that are scored too.

        Raises:
            InputError: fewer rows than centroids.
            MemoryBudgetError: where a cap is too small, of the host even for one block at a time,
                of the device even if no rows stay there.
        """
        largest = max(sizes)
        if largest > source.n_rows:  # before any talk of memory
            raise InputError(
                f"K = {largest} is more than the {source.n_rows} rows there are: use fewer"
            )
        blocks = engine.blocks_at_once(largest, source)
        if scratch is None:
            scratch = scratch_folder(source.path if isinstance(source, StoreSource) else None)
        plan = cls(source, options, engine, scheduler, largest, blocks, scratch)
        if scheduler.remote and options.mode == "minibatch":
            here = "mini-batches follow one another: they run in this process, not at"
            plan = replace(plan, notes=(f"{here} {scheduler.address}",))
        if memory is not None:
            plan = plan._within(memory)
        return plan._on_device(device_memory, 0 if plan.remote else heldout_rows)

    @property
    def remote(self) -> bool:
        """Whether whole passes run on the workers of a cluster."""
        spread = isinstance(self.source, (StoreSource, BlocksOnWorkers))
        return self.scheduler.remote and spread and self.options.mode != "minibatch"

    def preflight(self, progress: Progress) -> "FitPlan":
        """Examine the workers that passes run on, if any.

        Returns: the plan, with the share of those among them that share a device.
        Raises: WorkerError that names those that are unfit, and why; MemoryBudgetError.
        """
        if not self.remote:
            return self
        scratch = self.engine.scratch_bytes(self.source.n_rows, self.most)
        fixed = self._worker_bytes(0)
        asked = Requirements(
            packages=() if self.engine.name == "pruned" else ("torch",),
            memory=fixed,
            memory_of_thread=self._worker_bytes(1) - fixed,
            scratch=scratch // max(1, len(self.scheduler.workers)),
            device=str(self.engine.device),
        )
        if isinstance(self.source, StoreSource):
            store = StoreOnWorkers.of(self.source)
            asked = replace(asked, store=store.path, seal=store.seal)
        self.scheduler.preflight(asked)
        given = self.scheduler, self.engine, self.most, self.device_share
        return replace(self, device_share=device_share(*given, progress))

    @property
    def most(self) -> int:
        """Centroids at a time, with those on trial."""
        return most_centroids(self.largest, self.options)

    def allocated(self) -> int:
        """What the fits allocate in this process at most, in bytes.

        What seeding needs is given back before passes begin; the sample of moves stays. Where
        workers run the passes, blocks are read here one by one, and samples alone are labelled.
        """
        source, init, k = self.source, self.options.init, self.largest
        itemsize, dim = source.dtype.itemsize, source.dim
        rows = min(seeding.sample_rows(k, dim, itemsize), source.n_rows)
        drawing = partial(seeding.projected_bytes, dim=dim, itemsize=itemsize, rows=rows)
        seeds = drawing(k, init=init, of=source.n_rows)
        blocks = self._blocks_bytes(1 if self.remote else self.blocks, tight=self.tight)
        phases = [seeds, blocks]
        if self.most > k:  # moves have a sample, and its field from the first of them on
            moves = drawing(self.most, init="k-means++", of=source.n_rows)
            kept = seeding.field_bytes(rows, dim, itemsize)
            held = 0 if self.remote else self._block_rows(self.blocks) * dim * itemsize
            phases = [rows * dim * itemsize + seeds, kept + blocks, held + moves]
        needed, scratch = self._centroid_bytes + max(phases), 0
        samples = EngineSpec.for_samples(dim, source.dtype)
        spreads = init != "random" or self.most > k
        labels = spreads or not self.remote
        if not self.remote:
            needed += self.engine.host_bytes(self.most, max(self._block_rows(self.blocks), rows))
            if lies_in_memory(self.scratch):
                scratch = self.engine.scratch_bytes(source.n_rows, self.most)
        if labels and (self.remote or self.engine != samples):
            needed += samples.host_bytes(self.most, rows)
        transform = getattr(source, "transform", None)
        spreading = kernels_for(dim) if spreads else ()
        labelling = samples.numba_kernels() if labels else ()
        reading = transform.numba_kernels() if transform else ()
        code = code_bytes([*labelling, *spreading, *reading])
        return needed + needed // GAPS + code + scratch

    def _block_rows(self, blocks: int) -> int:
        return min(self.source.block_rows * blocks, self.source.n_rows)

    def _blocks_bytes(self, blocks: int, *, tight: bool) -> int:
        """Rows that are read and in work at a time, bytes at most."""
        held = self.engine.blocks_held - (GAP_BLOCKS if tight else 0)
        each = held * self.source.dim * self.source.dtype.itemsize
        each += int(getattr(self.source, "bytes_beside", 0))
        # blocks that are asked for in advance, and the parts of larger ones as they come
        more = 2 * (blocks_ahead(self.source) - READ_AHEAD) * self.source.dim
        waiting = self._block_rows(1) * more * self.source.dtype.itemsize
        return self._block_rows(blocks) * each + waiting

    @property
    def _centroid_bytes(self) -> int:
        """What a process keeps of centroids beside its engine, bytes at most."""
        return 8 * 8 * self.most * self.source.dim

    def _worker_bytes(self, threads: int = 1) -> int:
        """What a worker of so many threads takes; with drivers of a device as this process has."""
        imports, source = WORKER_BYTES, self.source
        if self.engine.device.type != "cpu":
            imports = max(imports, pipeline.runtime.memory.resident())
        engine = partial(self.engine.host_bytes, self.most, threads=threads)
        # It reads blocks one by one, and puts them together where it labels more at once.
        more = 2 * (self.blocks - 1) * self._block_rows(1) * source.dim * source.dtype.itemsize
        needed = self._blocks_bytes(1, tight=False) + more + self._centroid_bytes
        needed += engine(self._block_rows(self.blocks))
        needed += sums_bytes(self.engine, self.most, shards_of(source, source.n_rows))
        if hasattr(source, "bytes_beside"):  # scores in pixels
            needed += engine(self._block_rows(1)) + self._centroid_bytes
        return imports + needed + needed // GAPS + code_bytes(self.engine.numba_kernels())

    def _within(self, cap: int) -> "FitPlan":
        """With as many blocks at once as there is room for, up to the engine's choice.

        Where not even one has room: with memory that is kept without gaps and engines that do with
        less of it, both slower.
        """
        workers = self.scheduler.local_workers
        beside = starting_bytes() if self.remote else 0
        if workers and isinstance(self.source, BlocksOnWorkers):
            beside += self.source.held_bytes
        for plan in self._ever_smaller():
            each = plan._worker_bytes() if workers else 0
            needed = beside + workers * each + plan.allocated()
            if fits(needed, cap):
                break
        if plan.tight:
            keep_no_gaps()
        projected = check_budget(f"fitting K = {self.largest}", needed, cap)
        note = f"memory: {in_words(projected)} at most, {in_words(cap)} allowed"
        return replace(plan, projected=projected, notes=(*self.notes, note))

    def _ever_smaller(self) -> "Iterator[FitPlan]":
        """This plan, then others that take less and less of this machine."""
        elsewhere = self.remote and not self.scheduler.local_workers
        least = self.blocks if elsewhere else 1
        for blocks in range(self.blocks, least - 1, -1):
            yield replace(self, blocks=blocks)
        engine: EngineSpec | None = self.engine
        while engine is not None:
            yield replace(self, blocks=least, engine=engine, tight=True)
            engine = None if elsewhere else engine.with_less()

    def _on_device(self, device_memory: int | None, heldout_rows: int) -> "FitPlan":
        """With the share that each process has of the device's memory."""
        source, minibatch = self.source, self.options.mode == "minibatch"
        sharers = max(1, self.scheduler.local_workers + minibatch)
        share = device_memory
        if sharers > 1:
            share = device_budget(self.engine.device, device_memory) // sharers
        plan = self.engine.device_plan(self.most, share)
        if plan is None:
            unused = "device memory: the engine takes none, and its cap changes nothing"
            notes = () if device_memory is None else (unused,)
            return replace(self, device_share=share, notes=self.notes + notes)
        if plan.least > plan.allowed:
            step = f"fitting K = {self.largest}"
            raise device_refusal(step, plan.least, plan.allowed, sharers)
        stay = min(sharers * plan.room(source.n_rows, source.block_rows), source.n_rows)
        rows = "all rows stay there"
        if minibatch:
            stay, rows = 0, "mini-batches are sent, their rows do not stay"
        elif stay < source.n_rows:
            rows = f"{stay:,} of {source.n_rows:,} rows stay there, the others are streamed"
        kept = stay + plan.room(heldout_rows, source.block_rows, stay * plan.row_bytes)
        allowed = sharers * plan.allowed
        taken = min(sharers * plan.fixed + kept * plan.row_bytes, allowed)
        note = f"device memory: {in_words(taken)} at most, {in_words(allowed)} allowed; {rows}"
        return replace(self, device_share=share, notes=(*self.notes, note))


def check_preprocessing(source: RowSource, options: FitOptions, memory: int | None) -> None:
    """Refuse to learn how rows are preprocessed where that would pass the cap.

    Args:
        source: of the rows as they are.
        options: of the fit.
        memory: cap on the resident memory of the process tree, bytes; None: no cap.

    Raises: MemoryBudgetError.
    """
    if memory is None or options.preprocess != "zca":
        return
    dim, rows = source.dim, min(source.block_rows, source.n_rows)
    # The covariance, LAPACK's copy of it, its workspace of two, the vectors, what numpy makes of
    # them; blocks that are read ahead, and one as float32.
    needed = _COVARIANCES * 8 * dim**2 + rows * (dim * (3 * source.dtype.itemsize + 4) + 24)
    check_budget(f"whitening patches of {dim:,} values", needed, memory)
