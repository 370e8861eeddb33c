"""What is told of a cluster that loses workers, or of which nothing more is heard."""

from types import SimpleNamespace
from typing import Any

import pytest
from distributed import KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError

from pipeline.execution import watch
from pipeline.execution.scheduler import Scheduler
from pipeline.execution.watch import Watch
from storage.errors import WorkerError

ADDRESS = "tcp://head:8786"


class Seen:
    """A client whose scheduler sees what the test says; `given_up`: whom it was told to leave."""

    def __init__(self) -> None:
        self.status = "running"
        self.workers: dict[str, dict[str, float]] = {}
        self.given_up: list[str] = []
        self.scheduler = SimpleNamespace(identity=lambda: {"workers": dict(self.workers)})

    def sync(self, function: Any, callback_timeout: float) -> Any:
        return function()

    def run_on_scheduler(self, _: Any, address: str) -> None:
        self.given_up.append(address)
        del self.workers[address]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that a watch sees."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watch, "monotonic", lambda: found.now)
    return found


class Watched:
    """A watch that looks when it is told to."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock, self.client = clock, Seen()
        self.notes: list[str] = []
        self.asked: list[set[str]] = []
        self.refused: list[str] = []
        self.watch = Watch(self.client, ADDRESS, self.notes.append, self.unfit)  # type: ignore[arg-type]

    def unfit(self, workers: Any) -> list[str]:
        self.asked.append(set(workers))
        return self.refused

    def see(self, alive: str = "", silent: str = "", after: float = 1) -> None:
        """Look, so many seconds later, at workers of one letter, alive and silent ones."""
        self.clock.now += after
        signs = {name: self.client.workers[name]["last_seen"] for name in silent}
        signs |= dict.fromkeys(alive, self.clock.now)
        self.client.workers = {name: {"last_seen": at, "nthreads": 2} for name, at in signs.items()}
        self.watch._look()
        self.watch.check()


@pytest.fixture
def watched(clock: SimpleNamespace) -> Watched:
    return Watched(clock)


def test_a_worker_that_is_gone_is_named_once(watched: Watched) -> None:
    watched.see("ab")
    assert watched.notes == []
    assert watched.watch.workers == {"a": 2, "b": 2}
    watched.see("b")
    watched.see("b")
    assert watched.notes == ["worker a is gone: its tasks run elsewhere"]


def test_a_late_worker_is_named_once_each_time_that_it_goes(watched: Watched) -> None:
    watched.see("a")
    for _ in range(2):
        watched.watch.hear((500.0, {"action": "add-worker", "worker": "b"}))
        watched.see("ab")
        watched.see("a")  # before the scheduler tells of it
        gone = {"action": "remove-worker", "worker": "b", "expected": False}
        watched.watch.hear((501.0, gone))
        watched.see("a")
    assert watched.notes == ["worker b is gone: its tasks run elsewhere"] * 2


def test_a_late_worker_that_is_given_up_is_named_once(watched: Watched) -> None:
    watched.see("a")
    watched.watch.hear((500.0, {"action": "add-worker", "worker": "b"}))
    watched.see("ab")
    for after in (20, 20, 21):
        watched.see("a", silent="b", after=after)
    gone = {"action": "remove-worker", "worker": "b", "expected": False}
    watched.watch.hear((509.0, gone))  # as short a life as that of one that exits
    watched.see("a")
    assert watched.notes == ["worker b has not answered for 60 s: its tasks run elsewhere"]


def test_a_worker_that_comes_and_goes_at_once_is_named_with_the_likely_reason(
    watched: Watched,
) -> None:
    watched.see("a")
    watched.watch.wait_for_workers()
    # b is seen by no look, c by one, d by two, so that it was examined, e by one, for long
    for worker, looks, seconds in (("b", 0, 1.0), ("c", 1, 1.0), ("d", 2, 1.0), ("e", 1, 11.0)):
        watched.watch.hear((500.0, {"action": "add-worker", "worker": worker}))
        for _ in range(looks):
            watched.see(f"a{worker}")
        gone = {"action": "remove-worker", "worker": worker, "expected": False}
        watched.watch.hear((500.0 + seconds, gone))
        watched.see("a")
    watched.watch.hear((500.0, "another's"))
    watched.see("a")
    usual = "is gone: its tasks run elsewhere"
    new = "; it had just come: most often patchdict, or its version, is missing there, see its log"
    ends = {"b": new, "c": new, "d": "", "e": ""}
    assert watched.notes == [f"worker {worker} {usual}{end}" for worker, end in ends.items()]


def test_a_silent_worker_is_named_and_left_to_itself(watched: Watched) -> None:
    watched.see("ab")
    for after in (20, 20, 20):
        watched.see("b", silent="a", after=after)
    assert watched.client.given_up == []
    watched.see("b", silent="a")
    assert watched.client.given_up == ["a"]
    assert watched.watch.workers == {"b": 2}
    watched.see("b")
    assert watched.notes == ["worker a has not answered for 60 s: its tasks run elsewhere"]


def test_who_slept_itself_gives_nobody_up(watched: Watched) -> None:
    watched.see("ab")
    watched.see(silent="ab", after=3600)  # their signs of life are on their way
    for after in (1, 29, 30):
        watched.see("a", silent="b", after=after)
    assert watched.client.given_up == []
    watched.see("a", silent="b")
    assert watched.client.given_up == ["b"]


def test_workers_are_waited_for_and_then_missed(watched: Watched) -> None:
    watched.see("a")
    watched.see()
    watched.see(after=59)
    gone, waits = watched.notes
    assert gone == "worker a is gone: its tasks run elsewhere"
    assert waits == f"no worker is at {ADDRESS}: waiting up to 60 s for one"
    watched.see("b")
    watched.see()
    watched.see(after=59)  # from the second time on
    with pytest.raises(
        WorkerError, match=r"and none came within 60 s: start some, and run the same"
    ):
        watched.see(after=2)


def test_those_that_come_late_are_examined(watched: Watched) -> None:
    watched.see("a")
    assert watched.asked == []  # at the beginning this is another's
    watched.watch.wait_for_workers()
    watched.see("ab")
    watched.see("ab")
    assert watched.asked == [{"b"}]
    watched.refused = [f"worker {name} has no numpy" for name in "cdefg"]
    with pytest.raises(WorkerError, match=r"^worker c has .* worker e has no numpy; and 2 more$"):
        watched.see("ac")


def test_a_scheduler_of_which_nothing_is_heard_is_lost(watched: Watched) -> None:
    watched.see("a")
    watched.clock.now += 61
    watched.watch.check()  # who was stopped for long has not looked again yet
    watched.clock.now += 4
    watched.watch.check()
    watched.clock.now += 4
    with pytest.raises(
        WorkerError, match=f"the scheduler of {ADDRESS} no longer answers: start it"
    ):
        watched.watch.check()
    watched.see("a")
    watched.client.status = "connecting"
    with pytest.raises(WorkerError, match="no longer answers"):
        watched.watch.check()


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (
            "running",
            CommClosedError("in <TCP …>"),
            "the scheduler of .* no longer answers: start it,",
        ),
        ("connecting", TimeoutError("connect"), "the scheduler of .* no longer answers: start it,"),
        (
            "running",
            FutureCancelledError("a", "scheduler-connection-lost"),
            "the scheduler of .* no longer answers: start it,",
        ),
        (
            "running",
            FutureCancelledError("a", "lost dependencies"),
            r"the cluster at .* lost what tasks need \(lost dependencies\): run the same",
        ),
        (
            "running",
            KilledWorker("a", SimpleNamespace(address="tcp://w:1"), 3),
            "worker tcp://w:1 of .* was lost under a task, as 3 were before it: see its log",
        ),
    ],
)
def test_what_is_lost_is_told_apart(status: str, error: BaseException, told: str) -> None:
    scheduler = Scheduler(ADDRESS)
    scheduler.__dict__["_client"] = SimpleNamespace(status=status)
    with pytest.raises(WorkerError, match=told) as found, scheduler._told():
        raise error
    assert "run the same command again, it goes on" in str(found.value)


def test_errors_of_a_task_stay_what_they_are() -> None:
    scheduler = Scheduler(ADDRESS)
    scheduler.__dict__["_client"] = SimpleNamespace(status="running")
    with pytest.raises(FileNotFoundError), scheduler._told():
        raise FileNotFoundError("of the task")
