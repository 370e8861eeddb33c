"""What each worker of a cluster may take of its device, which others may take of, too."""

import socket
from collections import Counter

from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.runtime.devices import device_budget, device_identity, resolve_device
from pipeline.runtime.memory import device_refusal, in_words
from pipeline.runtime.progress import Progress


def device_share(
    scheduler: Scheduler, engine: EngineSpec, k: int, cap: int | None, progress: Progress
) -> int | None:
    """Bytes of device memory that each worker may take, as the workers are now.

    engine: that runs on each. k: the most centroids. cap: on what is taken of each device, bytes,
    and what is returned where no workers share one; None: see `device_budget`. progress: is told
    of those that share one.
    Raises: MemoryBudgetError where a share is too small.
    """
    if scheduler.local_workers or engine.device_plan(k) is None:
        return cap
    answers = scheduler.client.run(offer, str(engine.device), cap, on_error="return")
    offers = [found for found in answers.values() if not isinstance(found, BaseException)]
    workers = Counter(place for place, _ in offers)
    if not workers or max(workers.values()) == 1:
        return cap
    (host, name), sharers = workers.most_common(1)[0]
    size = min(budget // workers[place] for place, budget in offers)
    progress.note(
        f"{sharers} workers share {name} of {host}: each takes {in_words(size)} of its memory at"
        " most; start one a device, by CUDA_VISIBLE_DEVICES"
    )
    plan = engine.device_plan(k, size)
    if plan is not None and plan.least > plan.allowed:
        raise device_refusal(f"fitting K = {k}", plan.least, plan.allowed, sharers)
    return size


def offer(name: str, cap: int | None) -> tuple[tuple[str, str], int]:
    """Host and device of this worker, and bytes of its memory that may be taken."""
    device = resolve_device(name)
    return (socket.gethostname(), device_identity(device)), device_budget(device, cap)
