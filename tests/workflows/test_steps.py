"""Which steps may start when, for any graph; and what people see of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from entrepot.planning.plan import Plan, PlannedStep
from entrepot.protocol.messages import FailedAttempt, StepResult
from entrepot.workflows.progress import Progress
from entrepot.workflows.steps import LARGE_PIPELINE, MOST_IN_BATCH, Ready

KINDS = ("ingest", "transform", "check", "train", "publish")


def step(name: str, *inputs: str, kind: str = "transform") -> PlannedStep:
    return PlannedStep.model_validate(
        {"name": name, "kind": kind, "action": "run", "why": "new", "inputs": inputs, "guards": ()}
    )


@st.composite
def graphs(draw: st.DrawFn, least: int = 1, most: int = 130) -> list[PlannedStep]:
    """Steps in an order in which each comes after what it reads; some read tables that are there already."""
    steps: list[PlannedStep] = []
    for number in range(draw(st.integers(least, most))):
        before = draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        inputs = [f"s{each}" for each in sorted(before)] + (["raw"] if draw(st.booleans()) else [])
        steps.append(step(f"s{number}", *inputs, kind=draw(st.sampled_from(KINDS))))
    return steps


@dataclass
class Simulation:
    """A pipeline that runs in so many slots; batches end in any order, and are cut short anywhere."""

    steps: list[PlannedStep]
    slots: int
    draw: st.DataObject
    taken: list[list[str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def run(self) -> None:
        ready = Ready(self.steps)
        inputs = {s.name: {i for i in s.inputs if i != "raw"} for s in self.steps}
        running: list[list[str]] = []
        while running or ready.names:
            while ready.names and len(running) < self.slots:
                batch = ready.take(self.slots - len(running))
                assert batch
                self.taken.append(list(batch))
                for position, name in enumerate(batch):
                    assert inputs[name] <= {*self.made, *batch[:position]}, "a step was dealt out before its inputs"
                    assert name not in self.made
                    assert not any(name in other for other in running), "a step was dealt out twice"
                running.append(batch)
            assert len(running) == self.slots or not ready.names, "a slot is idle while a step is ready"
            ended = running.pop(self.draw.draw(st.integers(0, len(running) - 1)))
            through = self.draw.draw(st.integers(1, len(ended)))
            for name in ended[:through]:
                self.made.append(name)
                ready.done(name)
            ready.give_back(ended[through:])


@given(graphs(), st.integers(1, 8), st.data())
def test_every_step_is_made_exactly_once_after_its_inputs(
    steps: list[PlannedStep], slots: int, data: st.DataObject
) -> None:
    simulation = Simulation(steps, slots, data)
    simulation.run()
    assert sorted(simulation.made) == sorted(s.name for s in steps)
    kinds = {s.name: s.kind for s in steps}
    for batch in simulation.taken:
        assert len(batch) <= MOST_IN_BATCH
        assert len(batch) == 1 or {kinds[name] for name in batch} <= {"transform", "check"}


@given(graphs(most=60), st.integers(1, 8), st.data())
def test_of_a_plan_that_is_made_again_what_waits_runs_once_and_what_rests_never(
    steps: list[PlannedStep], slots: int, data: st.DataObject
) -> None:
    ready, left, made, running = Ready(steps), list(steps), list[str](), list[list[str]]()
    while running or ready.names:
        while ready.names and len(running) < slots:
            running.append(ready.take(slots - len(running)))
        batch = running.pop(data.draw(st.integers(0, len(running) - 1)))
        for name in batch:
            ready.done(name)
            made.append(name)
        begun = {*made, *(name for other in running for name in other)}
        waiting = [each.name for each in left if each.name not in begun]
        rests = data.draw(st.sets(st.sampled_from(waiting))) if waiting and data.draw(st.booleans()) else set()
        left = [each for each in left if each.name not in rests]
        ready = ready.replanned(left)
    assert sorted(made) == sorted(each.name for each in left)


@given(graphs(most=LARGE_PIPELINE), st.integers(1, 8), st.data())
def test_a_small_pipeline_has_an_activity_for_each_step(
    steps: list[PlannedStep], slots: int, data: st.DataObject
) -> None:
    simulation = Simulation(steps, slots, data)
    simulation.run()
    assert all(len(batch) == 1 for batch in simulation.taken)


def test_a_large_pipeline_is_dealt_out_in_as_many_batches_as_there_are_slots() -> None:
    ready = Ready([step(f"s{number}") for number in range(100)])
    assert [len(ready.take(slots)) for slots in (4, 3, 2, 1)] == [25, 25, 25, 25]
    assert ready.names == []


def test_a_chain_is_one_batch_up_to_the_limit() -> None:
    chain = [step("s0")] + [step(f"s{n}", f"s{n - 1}") for n in range(1, 120)]
    ready = Ready(chain)
    assert ready.take(4) == [s.name for s in chain[:MOST_IN_BATCH]]
    assert ready.names == []


def test_what_a_cut_batch_left_goes_first() -> None:
    ready = Ready([step(f"s{number}") for number in range(100)])
    batch = ready.take(10)
    ready.done(batch[0])
    ready.give_back(batch[1:])
    assert ready.names[:9] == batch[1:]
    assert len(ready.names) == 99


def test_other_work_is_not_batched() -> None:
    ready = Ready([step("fit", kind="train"), *(step(f"s{number}") for number in range(60))])
    assert ready.take(4) == ["fit"]
    assert len(ready.take(3)) == 20


# What people see -----------------------------------------------------------------------------------------------------


def plan(*actions: str) -> Plan:
    steps = [
        PlannedStep.model_validate(
            {"name": f"s{n}", "kind": "transform", "action": action, "why": f"why {n}", "inputs": (), "guards": ()}
        )
        for n, action in enumerate(actions)
    ]
    return Plan(steps=tuple(steps), versions={}, moves={}, removed=(), sequence=0)


def test_progress_counts_states() -> None:
    progress = Progress(run="r", tenant="acme", pipeline="shop", environment="prod")
    progress.set("source", "running")
    progress.finished(StepResult(name="source", rows=10, seconds=0.12345))
    assert [(s.name, s.kind, s.state, s.seconds) for s in progress.steps] == [("source", "ingest", "done", 0.123)]
    progress.planned(plan("run", "run", "skip", "hold"))
    assert [s.state for s in progress.steps] == ["waiting", "waiting", "skipped", "held"]
    progress.set("s0", "running")
    progress.finished(StepResult(name="s1", rows=1, bytes=2, note="warned of | a pipe", warned=True))
    assert [progress.count(state) for state in ("waiting", "running", "done", "failed", "held")] == [0, 1, 1, 0, 1]


def test_what_ingest_told_stays_when_the_plan_comes() -> None:
    progress = Progress(run="r")
    progress.finished(StepResult(name="s0", rows=10))
    progress.planned(plan("skip", "run"))
    assert [(s.name, s.state, s.rows) for s in progress.steps] == [("s0", "done", 10), ("s1", "waiting", None)]


def plain(markdown: str) -> list[str]:
    """Lines of a table, without the em spaces that only set its cells apart, and with spaces that may break."""
    return markdown.replace("\u2003", "").replace("\u00a0", " ").splitlines()


def test_progress_reads_as_a_table() -> None:
    progress = Progress(run="r", tenant="acme", pipeline="shop", environment="prod", stage="transform")
    progress.planned(plan("run", "skip", "run", "run"))
    progress.finished(StepResult(name="s0", rows=12345, seconds=1.5, note="two\nlines | and <b>", warned=True))
    note = '19 violating rows, for example {"x": "a|b"}'
    progress.finished(StepResult(name="s2", seconds=0.25, note=note, warned=True))
    progress.set("s3", "failed", "it broke since " + 100 * "x ")
    progress.error = "it broke"
    assert plain(progress.markdown()) == [
        "**shop** for **acme** in **prod** · transform · 2 warned, 1 skipped, 1 failed",
        "",
        "**Failed:** it broke",
        "",
        "| step | state | note |",
        "|---|---|---|",
        "| s0 | ⚠ warned | 12,345 rows · 1.50 s · two lines \\| and \\<b> |",
        "| s1 | · skipped | why 1 |",
        "| s2 | ⚠ warned | 0.25 s · 19 violating rows |",
        "| s3 | ✗ failed | see below |",
        "",
        '- **s2**: 19 violating rows, for example {"x": "a\\|b"}',
        f"- **s3**: it broke since {99 * 'x '}x",
    ]


def test_numbers_and_states_are_not_broken_at_their_spaces() -> None:
    progress = Progress(run="r")
    progress.finished(StepResult(name="s0", rows=12345, seconds=1.5, note="made"))
    assert "| ✓\u00a0done\u2003 | 12,345\u00a0rows · 1.50\u00a0s · made |" in progress.markdown()


def test_what_is_tried_again_says_why_until_it_is_done() -> None:
    progress = Progress(run="r")
    progress.planned(plan("run", "run", "run"))
    for name in ("s0", "s1"):
        progress.set(name, "running")
    progress.tried(FailedAttempt(steps=("s0", "s1", "s2"), attempt=1, why="transform 's1': away (attempt 1 of 5)"))
    assert [(s.name, s.mark, s.said) for s in progress.steps] == [
        ("s0", "… running", "why 0"),
        ("s1", "↻ again", "transform 's1': away (attempt 1 of 5)"),
        ("s2", "○ waiting", "why 2"),
    ]
    progress.tried(FailedAttempt(steps=("s0",), attempt=2, why="nobody knows which (attempt 2 of 5)"))
    assert [s.mark for s in progress.steps] == ["↻ again", "↻ again", "○ waiting"]
    progress.finished(StepResult(name="s1", rows=1))
    assert [(s.mark, s.said) for s in progress.steps][1] == ("✓ done", "why 1")
    progress.tried(FailedAttempt(steps=("s1", "unknown"), attempt=1, why="late"))
    assert [s.mark for s in progress.steps][1] == "✓ done"


def test_what_is_left_to_do_is_told_once_it_is_planned() -> None:
    progress = Progress(run="r", stage="plan")
    progress.planned(plan("run"))
    assert progress.stages
    assert plain(progress.markdown())[2] == " → ".join(progress.stages)
    progress.stage = "transform"
    assert " → ".join(progress.stages) not in progress.markdown()


def test_the_table_of_a_large_pipeline_has_what_has_something_to_tell() -> None:
    progress = Progress(run="r")
    progress.planned(plan(*["run"] * 500))
    for number in range(100):
        progress.finished(StepResult(name=f"s{number}", rows=1))
    progress.set("s400", "running")
    lines = plain(progress.markdown())
    assert "100 done, 1 running, 399 waiting" in lines[0]
    assert len(lines) == 4 + 60
    assert lines[-1].startswith("| s400 | … running |")
