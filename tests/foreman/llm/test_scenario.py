"""B-43, end to end: two scripted vendors and a real foreman in front of the embedded target."""

from pathlib import Path

from foreman.llm import Ledger, Observed, Registry, Request
from foreman.llm.providers.script import Say, Status
from foreman.llm.settings import Settings
from tests.fakes.vendors import Anthropic, OpenAI, serving
from tests.foreman.llm.providers import homes

TOML = """
[providers]
gpt = "openai+http://k1@{openai}"
claude = "anthropic+http://k2@{anthropic}"
box = "foreman://{box}"

[aliases]
architect = "claude/claude-large"
implementer = "gpt/gpt-large, box/{local}"
tester = "gpt/gpt-small"
reviewer = "claude/claude-small"
documenter = "gpt/gpt-small, claude/claude-small"
"""
FIRST = {
    "architect": "claude/claude-large",
    "implementer": "gpt/gpt-large",
    "tester": "gpt/gpt-small",
    "reviewer": "claude/claude-small",
    "documenter": "gpt/gpt-small",
}


def address(url: str) -> str:
    return url.removeprefix("http://")


async def test_from_the_settings_to_an_answer_of_the_backup(tmp_path: Path) -> None:
    with homes.foreman(tmp_path / "data") as home:
        local = home.play(text="I am the backup.")
        async with serving(OpenAI()) as gpt, serving(Anthropic()) as claude:
            file = tmp_path / "llm.toml"
            file.write_text(
                TOML.format(
                    openai=address(gpt.url),
                    anthropic=address(claude.url),
                    box=address(home.url),
                    local=local,
                )
            )
            settings = Settings.read(file)  # 1: the settings load
            async with Registry(environ={}) as registry:
                settings.fill(registry)
                assert set(registry.providers) == {"box", "claude", "gpt"}  # 2: all are there
                chosen = {agent: registry.model(agent).targets[0] for agent in FIRST}
                assert chosen == FIRST  # 3: a model for each kind of agent

                ledger = Ledger()
                gpt.script(Say("Done, and tested."), *[Status(503, "overloaded")] * 3)
                implementer = Observed(registry.model("implementer"), ledger.record)
                async with implementer.stream(Request.of("Write it.")) as events:
                    *_, last = [event async for event in events]
                assert last.text == "Done, and tested."  # 4: a streamed answer
                assert last.response is not None
                account = ledger.provider("gpt").summary()
                assert account.requests == 1  # 5: the stats show its tokens
                assert account.usage == last.response.usage
                assert account.usage.output

                answers = [await implementer.complete(Request.of("Again.")) for _ in range(2)]
                [circuit] = [
                    each for each in registry.health.snapshot() if each.target == "gpt/gpt-large"
                ]
                assert circuit.state == "open"  # 6: three failures opened it
                called = len(gpt.seen)
                answers.append(await implementer.complete(Request.of("Once more.")))
                assert len(gpt.seen) == called
                for answer in answers:  # 7: the backup answered, under its own model's name
                    assert (answer.text, answer.target) == ("I am the backup.", f"box/{local}")
