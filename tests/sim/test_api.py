"""What holds of the API whatever its users, its target and its operator do.

Invariants I1 to I5, I8 to I10 and I14 to I16, with their numbers at the assertions in `api`.

Hypothesis chooses the steps; they are played in virtual time once they are complete, so that what
is left of a failure is a short list of them.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from trio.testing import MockClock

from tests.sim.api import Step, World, play, virtual

models = st.sampled_from("ab")
numbers = st.integers(0, 7)


class Api(RuleBasedStateMachine):
    """Each rule is a step of the play."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    @rule(
        model=models,
        priority=st.integers(-1, 1),
        key=st.sampled_from([None, None, "k1", "k2"]),
        hook=st.booleans(),
    )
    def submit(self, model: str, priority: int, key: str | None, hook: bool) -> None:
        self.steps.append(partial(World.submit, model=model, priority=priority, key=key, hook=hook))

    @rule(of=st.lists(models, min_size=1, max_size=4))
    def submit_bulk(self, of: list[str]) -> None:
        self.steps.append(partial(World.submit_bulk, models=of))

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        self.steps.append(partial(World.cancel, number=number))

    @rule(number=numbers, seconds=st.integers(0, 8))
    def wait(self, number: int, seconds: int) -> None:
        self.steps.append(partial(World.wait, number=number, seconds=seconds))

    @rule(model=models)
    def call(self, model: str) -> None:
        self.steps.append(partial(World.call, model=model))

    @rule()
    def subscribe_or_hang_up(self) -> None:
        self.steps.append(World.subscribe)

    @rule(seconds=st.integers(1, 10))
    def pass_time(self, seconds: int) -> None:
        self.steps.append(partial(World.pass_time, seconds=seconds))

    @rule()
    def restart(self) -> None:
        self.steps.append(World.restart)

    @rule()
    def target_goes(self) -> None:
        self.steps.append(World.target_goes)

    @rule()
    def target_comes(self) -> None:
        self.steps.append(World.target_comes)

    def teardown(self) -> None:
        with TemporaryDirectory() as folder, virtual():
            clock = MockClock(autojump_threshold=0)
            trio.run(play, Path(folder) / "data", self.steps, clock=clock)


TestApi = Api.TestCase
TestApi.settings = settings(
    max_examples=40,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # to explain a failure, every line would be traced
    suppress_health_check=list(HealthCheck),
)
