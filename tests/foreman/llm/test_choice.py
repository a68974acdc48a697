from collections.abc import Iterable, Mapping

import pytest

from foreman.llm import Capabilities, InvalidRequest, Options, Request, SkipReason, assistant, user
from foreman.llm.candidates import Candidate, Selection
from foreman.llm.chain import Chain
from foreman.llm.choice import Choice
from foreman.llm.complexity import Complexity
from foreman.llm.health import Health
from foreman.llm.ordering import Order, cheapest, lowest_latency, priority, round_robin
from foreman.llm.policies import Policy
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import Clock, FakeProvider
from foreman.llm.tiers import Tier, Tiers

HI = Request.of("Hi there, my friend")
HARD = Request.of("hi")  # too short to tell


class Table:
    """Prices by target."""

    def __init__(self, **rates: tuple[float, float, float]) -> None:
        self._rates = {
            f"p/{name}": Rates(input=each[0], output=each[1], base_fee=each[2])
            for name, each in rates.items()
        }

    def rates(self, target: str) -> Rates | None:
        return self._rates.get(target)


TABLE = Table(home=(0, 0, 0), cheap=(1, 2, 0), dear=(10, 30, 0))
TIERS = {"p/home": Tier.LOCAL, "p/cheap": Tier.STANDARD, "p/dear": Tier.FRONTIER}


def candidates(
    names: Iterable[str] = ("home", "cheap", "dear"),
    capabilities: Mapping[str, Capabilities] | None = None,
) -> list[Candidate]:
    fake = FakeProvider("p", capabilities=capabilities)
    health = Health(clock=Clock())
    return [Candidate(fake.model(name), health[f"p/{name}"]) for name in names]


def chosen(selection: Selection) -> list[str]:
    return [each.name.removeprefix("p/") for each in selection.candidates]


def skipped(selection: Selection) -> dict[str, SkipReason]:
    return {skip.target.removeprefix("p/"): skip.reason for skip in selection.skips}


def ordered(order: Order, names: str, request: Request = HI) -> str:
    return "".join(each.name[-1] for each in order(request, candidates(names)))


def test_as_written_unless_told_otherwise() -> None:
    assert chosen(Choice().select(HI, candidates("cab"))) == ["c", "a", "b"]


def test_priority_puts_the_lowest_number_first_and_the_others_at_100() -> None:
    order = priority({"p/a": 30, "p/b": 10, "p/c": 20, "p/e": 200})
    assert ordered(order, "eabcd") == "bcade"
    assert ordered(priority({"p": 5, "p/b": 1}), "ab") == "ba"


def test_cheapest_means_for_this_request() -> None:
    prices = Table(a=(1000, 1000, 5), b=(5000, 5000, 0))
    small = Request.of("x" * 400, options=Options(max_tokens=100))
    large = Request.of("x" * 40_000, options=Options(max_tokens=10_000))
    assert ordered(cheapest(prices), "ab", small) == "ba"
    assert ordered(cheapest(prices), "ba", large) == "ab"


def test_cheapest_breaks_ties_by_name_and_puts_the_unknown_last() -> None:
    prices = Table(c=(1, 1, 0), a=(1, 1, 0), d=(2, 2, 0))
    assert ordered(cheapest(prices), "xdca") == "acdx"


def test_cheapest_by_the_blended_price_is_one_order_for_all() -> None:
    prices = Table(a=(5_000, 10_000, 8000), b=(8_000, 15_000, 0))
    assert ordered(cheapest(prices, ratio=3.0), "ab") == "ba"
    duplicate = Table(a=(3_000, 10_000, 0), b=(4_000, 15_336, 0))
    assert ordered(cheapest(duplicate, ratio=3.0), "ba") == "ab"


def test_the_lowest_latency_first_but_whom_nobody_knows_before_all() -> None:
    among = candidates("abc")
    among[0].health.took(2.0)
    among[2].health.took(1.0)
    assert [each.name for each in lowest_latency(HI, among)] == ["p/b", "p/c", "p/a"]


def test_round_robin_begins_with_the_next_one() -> None:
    order = round_robin()
    assert [ordered(order, "abc") for _ in range(4)] == ["abc", "bca", "cab", "abc"]
    assert ordered(round_robin(), "") == ""


async def test_lowest_latency_learns_from_the_calls() -> None:
    clock = Clock()
    fake = FakeProvider("p", sleep=clock.sleep)
    chain = Chain([fake.model("a")], clock=clock)
    await chain.complete(HI)
    assert chain.health["p/a"].latency == 0.0


def test_who_cannot_do_it_is_not_asked() -> None:
    blind = {"home": Capabilities(json=False)}
    request = Request.of("Hi", options=Options(json=True))
    selection = Choice().select(request, candidates(capabilities=blind))
    assert chosen(selection) == ["cheap", "dear"]
    assert str(selection.skips[0]) == "p/home: skipped, lacks what the request needs: JSON"


class TestTiers:
    @pytest.mark.parametrize(
        ("ceiling", "count"), [(Tier.LOCAL, 1), (Tier.STANDARD, 2), (Tier.FRONTIER, 3)]
    )
    def test_a_ceiling_lets_through_what_is_below_it(self, ceiling: Tier, count: int) -> None:
        selection = Choice(tiers=Tiers(of=TIERS, ceiling=ceiling)).select(HI, candidates())
        assert len(selection.candidates) == count
        assert set(skipped(selection).values()) <= {SkipReason.TIER}

    def test_without_one_all_are_candidates(self) -> None:
        assert len(Choice(tiers=Tiers(of=TIERS)).select(HI, candidates()).candidates) == 3

    @pytest.mark.parametrize(
        ("resting", "called"),
        [
            ([], ["home"]),
            (["home"], ["home", "cheap"]),
            (["home", "cheap"], ["home", "cheap", "dear"]),
        ],
    )
    def test_the_ceiling_rises_while_all_below_are_benched(
        self, resting: list[str], called: list[str]
    ) -> None:
        among = candidates()
        for each in among:
            if each.name.removeprefix("p/") in resting:
                each.health.rest(30)
        tiers = Tiers(of=TIERS, ceiling=Tier.LOCAL)
        assert chosen(Choice(tiers=tiers).select(HI, among)) == called

    def test_it_rises_to_the_only_one_there_is(self) -> None:
        tiers = Tiers(of=TIERS, ceiling=Tier.LOCAL)
        assert chosen(Choice(tiers=tiers).select(HI, candidates(["dear"]))) == ["dear"]

    def test_nothing_below_the_floor_is_called_however_cheap(self) -> None:
        choice = Choice(tiers=Tiers(of=TIERS, floor=Tier.STANDARD), order=cheapest(TABLE))
        selection = choice.select(HI, candidates())
        assert chosen(selection) == ["cheap", "dear"]
        assert skipped(selection) == {"home": SkipReason.TIER}

    def test_nobody_is_left_when_the_floor_is_above_them(self) -> None:
        tiers = Tiers(of=TIERS, floor=Tier.FRONTIER)
        assert chosen(Choice(tiers=tiers).select(HI, candidates(["home", "cheap"]))) == []

    def test_the_floor_holds_where_the_ceiling_contradicts_it(self) -> None:
        tiers = Tiers(of=TIERS, floor=Tier.STANDARD, ceiling=Tier.LOCAL)
        assert tiers.bounds(HI) == (Tier.STANDARD, Tier.STANDARD)
        assert chosen(Choice(tiers=tiers).select(HI, candidates())) == ["cheap"]

    def test_the_score_is_the_ceiling(self) -> None:
        choice = Choice(tiers=Tiers(of=TIERS, scoring=Complexity()))
        assert chosen(choice.select(HI, candidates())) == ["home"]
        assert chosen(choice.select(HARD, candidates())) == ["home", "cheap", "dear"]

    def test_and_the_floor_too_where_quality_is_protected(self) -> None:
        choice = Choice(tiers=Tiers(of=TIERS, scoring=Complexity(), protect=True))
        assert chosen(choice.select(HI, candidates())) == ["home"]
        assert chosen(choice.select(HARD, candidates())) == ["dear"]

    @pytest.mark.parametrize(
        ("said", "called"),
        [
            ("low", ["home"]),
            ("medium", ["home", "cheap"]),
            ("high", ["home", "cheap", "dear"]),
            ("HIGH", ["home"]),
        ],
    )
    def test_a_request_may_say_how_hard_it_is(self, said: str, called: list[str]) -> None:
        request = Request(messages=HI.messages, metadata={"complexity": said})
        choice = Choice(tiers=Tiers(of=TIERS, scoring=Complexity()))
        assert chosen(choice.select(request, candidates())) == called

    def test_targets_nobody_rated_are_standard(self) -> None:
        assert Tiers(of={"box": Tier.LOCAL}).tier("box/any") is Tier.LOCAL
        assert Tiers().tier("box/any") is Tier.STANDARD


def named(policy: str, text: str = "Hi") -> Request:
    return Request(messages=(user(text),), metadata={"policy": policy})


CODE = Policy(name="code", allowed=("p/dear",), keywords=("code", "quick fix"))
CHEAP = Policy(name="cheap", max_output_price=20, order=cheapest(TABLE), keywords=("cheap",))
POLICIES = Choice(policies=(CODE, CHEAP), prices=TABLE)


class TestPolicies:
    def test_a_policy_by_name_forbids(self) -> None:
        selection = POLICIES.select(named("code"), candidates())
        assert chosen(selection) == ["dear"]
        assert skipped(selection) == {"home": SkipReason.POLICY, "cheap": SkipReason.POLICY}

    @pytest.mark.parametrize("text", ["Write some CODE", "a quick fix, please"])
    def test_one_by_keyword_steers_and_forbids_nothing(self, text: str) -> None:
        selection = POLICIES.select(Request.of(text), candidates())
        assert chosen(selection) == ["dear", "home", "cheap"]
        assert selection.skips == ()

    @pytest.mark.parametrize("text", ["Read the barcode", "codes", "quick", ""])
    def test_only_whole_words_count(self, text: str) -> None:
        assert chosen(POLICIES.select(Request.of(text), candidates()))[0] == "home"

    def test_only_the_last_thing_the_user_said_counts(self) -> None:
        talk = Request.of([user("code"), assistant("code"), user("And now?")])
        assert chosen(POLICIES.select(talk, candidates()))[0] == "home"
        talk = Request.of([user("And now?"), user("code"), assistant("yes")])
        assert chosen(POLICIES.select(talk, candidates()))[0] == "dear"

    def test_the_first_that_matches_is_it(self) -> None:
        both = Request.of("cheap code")
        assert chosen(POLICIES.select(both, candidates()))[0] == "dear"

    def test_its_order_is_for_what_it_allows(self) -> None:
        selection = POLICIES.select(Request.of("cheap"), candidates(["dear", "cheap", "home"]))
        assert chosen(selection) == ["home", "cheap", "dear"]

    def test_a_name_beats_a_keyword(self) -> None:
        assert chosen(POLICIES.select(named("cheap", "code"), candidates())) == ["home", "cheap"]

    @pytest.mark.parametrize("name", ["", "Code", "nosuch"])
    def test_a_name_nobody_defined_is_an_error(self, name: str) -> None:
        with pytest.raises(InvalidRequest, match=r"no policy '.*' among: code, cheap"):
            POLICIES.select(named(name), candidates())

    def test_a_price_cap_says_what_it_would_have_cost(self) -> None:
        selection = POLICIES.select(named("cheap"), candidates())
        assert chosen(selection) == ["home", "cheap"]
        assert str(selection.skips[0]) == (
            "p/dear: skipped, above the price allowed: 30 USD per 1M tokens"
        )

    def test_the_cap_itself_is_allowed(self) -> None:
        capped = Choice(always=Policy(max_output_price=30), prices=TABLE)
        assert chosen(capped.select(HI, candidates())) == ["home", "cheap", "dear"]

    def test_the_cost_of_a_request_has_a_cap_as_well(self) -> None:
        capped = Choice(always=Policy(max_cost=0.001), prices=TABLE)
        assert chosen(capped.select(HI, candidates())) == ["home", "cheap"]
        short = Request.of("Hi there", options=Options(max_tokens=10))
        assert chosen(capped.select(short, candidates())) == ["home", "cheap", "dear"]

    def test_a_price_nobody_knows_is_above_every_cap(self) -> None:
        capped = Choice(always=Policy(max_cost=100), prices=TABLE)
        assert skipped(capped.select(HI, candidates(["home", "new"]))) == {"new": SkipReason.PRICE}
        blind = Choice(always=Policy(max_cost=100))
        assert chosen(blind.select(HI, candidates())) == []

    def test_what_always_holds_holds_beside_what_is_named(self) -> None:
        choice = Choice(
            always=Policy(allowed=("home", "p/dear")), policies=(CODE, CHEAP), prices=TABLE
        )
        assert chosen(choice.select(named("cheap"), candidates())) == ["home"]

    def test_a_policy_may_have_a_floor(self) -> None:
        good = Policy(name="good", floor=Tier.STANDARD, keywords=("good",))
        choice = Choice(policies=(good,), tiers=Tiers(of=TIERS), prices=TABLE)
        assert chosen(choice.select(named("good"), candidates())) == ["cheap", "dear"]
        steered = choice.select(Request.of("make it good"), candidates())
        assert chosen(steered) == ["cheap", "dear", "home"]

    @pytest.mark.parametrize("allowed", ["p", "home", "p/home"])
    def test_an_allow_list_has_providers_models_and_targets(self, allowed: str) -> None:
        policy = Choice(always=Policy(allowed=(allowed,)))
        assert "home" in chosen(policy.select(HI, candidates()))


async def test_a_chain_tells_whom_its_choice_passed_over() -> None:
    fake = FakeProvider("p")
    models = [fake.model(name) for name in ("home", "cheap", "dear")]
    chain = Chain(models, choice=Choice(tiers=Tiers(of=TIERS, floor=Tier.FRONTIER)))
    answer = await chain.complete(HI)
    assert answer.target == "p/dear"
    assert [step.target for step in answer.history] == ["p/home", "p/cheap"]
