"""Registration on a real MLflow store: once, judged, whole, and nobody else's versions touched."""

from __future__ import annotations

import pytest
from tiny import tiny_release

from mlops import promotion, registry
from mlops.errors import NotFound, RegistryError, Rejected
from mlops.reconcile import reconcile
from mlops.tracking import client
from mlops.types import Check, Latency, Release, Verdict


def register(release: Release) -> Release:
    return registry.register(release, {"evergreen.metric": "1.0"}, None)


def test_a_release_is_registered_once_however_often_it_is_tried() -> None:
    first = register(tiny_release())
    assert first.version == "1"
    assert register(tiny_release()) == first
    assert register(tiny_release(seed=1)).version == "2"
    assert [row["state"] for row in registry.releases("tiny")] == ["complete", "complete"]
    assert registry.at("tiny", "1") == first
    assert registry.champion("tiny") is None  # registered is not promoted


@pytest.mark.parametrize("missing", ["snapshot", "candidate", "fp32"])
def test_without_every_verdict_nothing_is_registered(missing: str) -> None:
    release = tiny_release()
    judged = tuple(verdict for verdict in release.verdicts if verdict.subject != missing)
    with pytest.raises(Rejected, match=missing):
        register(release.model_copy(update={"verdicts": judged}))
    failed = Verdict(subject=missing, checks=(Check(name="made", observed=1, allowed=0, outcome="fail"),))
    with pytest.raises(Rejected, match="made observed 1, allowed 0"):
        register(release.model_copy(update={"verdicts": (*judged, failed)}))
    assert registry.names() == []


def test_the_file_that_was_judged_is_the_file_that_is_registered() -> None:
    release, other = tiny_release(), tiny_release("int8")
    with pytest.raises(RegistryError, match=r"is not the one that was judged"):
        register(release.model_copy(update={"model": other.model}))
    assert registry.names() == []


def test_a_slower_answer_makes_no_second_version() -> None:
    release = tiny_release()
    first = register(release)
    slow = release.evaluation.model_copy(update={"latency": Latency(p50=7.0, p95=9.0)})
    assert register(release.model_copy(update={"evaluation": slow})).version == first.version


def test_a_half_version_cannot_be_used_and_goes_at_the_next_start() -> None:
    register(tiny_release())
    promotion.promote("tiny", "1", "a test")
    client().create_model_version(
        "tiny", source="file:///nowhere", tags={"evergreen.key": "k", "evergreen.state": "half"}
    )
    assert [row["state"] for row in registry.releases("tiny")] == ["complete", "half"]
    with pytest.raises(RegistryError, match="version 2 was never finished"):
        promotion.promote("tiny", "2", "by hand")
    reconcile("tiny")
    assert [row["version"] for row in registry.releases("tiny")] == ["1"]


def test_versions_of_others_are_left_alone_and_never_serve() -> None:
    api = client()
    api.create_registered_model("tiny")
    for _ in range(2):
        api.create_model_version("tiny", source="file:///theirs")
    api.set_registered_model_alias("tiny", "production", "2")
    reconcile("tiny")
    assert register(tiny_release()).version == "3"
    promotion.promote("tiny", "3", "a test")
    reconcile("tiny")
    assert [row["state"] for row in registry.releases("tiny")] == ["foreign", "foreign", "complete"]
    assert api.get_model_version_by_alias("tiny", "production").version in (2, "2")
    with pytest.raises(RegistryError, match="version 2 was registered by something else"):
        promotion.promote("tiny", "2", "by hand")


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(NotFound, match="models: none"):
        registry.at("tiny", "champion")
    register(tiny_release())
    with pytest.raises(NotFound, match=r"'9'; versions: 1; models: tiny"):
        registry.at("tiny", "9")


def test_a_card_is_the_versions_description() -> None:
    release = registry.register(tiny_release(), {"evergreen.metric": "1.0"}, None, card="# tiny\n\n| a | b |")
    assert client().get_model_version("tiny", release.version).description == "# tiny\n\n| a | b |"
    assert register(tiny_release()) == release  # tried again: the description stays
    registry.set_card("tiny", release.version, "x" * 9000)
    cut = client().get_model_version("tiny", release.version).description
    assert len(cut) == registry.CARD_CHARACTERS
    assert cut.endswith("(cut: MLflow holds no more)")
    assert registry.at("tiny", "1") == release
    with pytest.raises(NotFound, match="tiny has no version '9'"):
        registry.set_card("tiny", "9", "x")
    with pytest.raises(NotFound, match="absent has no version"):
        registry.set_card("absent", "1", "x")
