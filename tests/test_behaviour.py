"""Behaviour cases: what a file may say, what a group comes to, and that nothing asked of a model breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny import _WORDS, tiny_models, tiny_rows

from mlops import config, flow
from mlops.behaviour import examine
from mlops.behaviour_changes import changed
from mlops.config_behaviour import BehaviourGroup, load_behaviour
from mlops.serving.runtime import Runtime
from mlops.tasks import get
from mlops.tasks.base import Item, Logits
from mlops.training.predictor import TorchPredictor
from mlops.types import Behaviour

CHANGES = ("whitespace", "case", "punctuation", "typo", "repeated-marks")
METAL, PLANT = " ".join(_WORDS[:4]), " ".join(_WORDS[8:12])
HOSTILE = ["", " \n\t", "\U0001f600" * 50, METAL * 5000, "\ud800", "\x00", "\u202e" + METAL, "é" * 3000]


def loaded(
    folder: Path, task: str = "text-classification", **file: Any
) -> tuple[tuple[BehaviourGroup, ...], list[str]]:
    place = folder / "tests" / "behaviour"
    place.mkdir(parents=True, exist_ok=True)
    (place / "a.yaml").write_text(yaml.safe_dump({"task": task} | file, allow_unicode=True), encoding="utf-8")
    return load_behaviour(folder, task, "tiny")


def one(folder: Path, task: str = "text-classification", **group: Any) -> list[str]:
    """The faults of a file with this group alone."""
    return loaded(folder, task, groups=[{"name": "g"} | group])[1]


def groups(*entries: dict[str, Any]) -> list[BehaviourGroup]:
    return [BehaviourGroup.model_validate({"name": f"g{number}"} | entry) for number, entry in enumerate(entries)]


class Words:
    """Answers by the first letter of an item: a, b or, for anything else, c; an item with "boom" breaks it."""

    labels: tuple[str, ...] = ("a", "b", "c")

    def logits(self, items: Sequence[Item]) -> list[Logits]:
        if any("boom" in str(item) for item in items):
            raise ValueError("boom")
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Logits:
        first = item if isinstance(item, str) else item[0]
        place = {"a": 0, "b": 1}.get(first[:1], 2)
        return np.eye(3, dtype=np.float32)[place] * (1 + first.count("!"))


class Tagger:
    """Capital tokens are names; two behind each other are one."""

    labels = ("O", "B-name", "I-name")

    def logits(self, items: Sequence[Item]) -> list[Logits]:
        found = []
        for item in items:
            tags = [int(token[:1].isupper()) for token in item]
            for place in range(1, len(tags)):
                if tags[place] and tags[place - 1]:
                    tags[place] = 2
            found.append(np.eye(3, dtype=np.float32)[tags] * 9 if tags else np.zeros((0, 3), dtype=np.float32))
        return found


def test_a_file_is_taken_by_its_task_and_its_pipeline(tmp_path: Path) -> None:
    groups = [{"name": "g", "kind": "minimum", "cases": [{"text": "x", "label": 1}]}]
    found, faults = loaded(tmp_path, severity="fail", groups=groups)
    assert not faults
    assert (found[0].severity, found[0].limit, found[0].cases[0].label) == ("fail", 0.9, "1")
    assert load_behaviour(tmp_path, "text-ranking", "tiny") == ((), [])
    assert loaded(tmp_path, pipeline="other", groups=groups) == ((), [])
    assert len(loaded(tmp_path, pipeline="tiny", groups=groups)[0]) == 1
    # A fault in somebody else's file stops nobody but them.
    assert loaded(tmp_path, pipeline="other", groups=[{"nme": "g"}]) == ((), [])


def test_the_pipeline_file_gets_them_and_they_decide_what_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: t\ntask: text-classification\ndata: {source: rows.jsonl}\nmodel: {base: base}\n")
    assert config.load(path).behaviour == ()
    loaded(tmp_path, groups=[{"name": "g", "kind": "invariance", "change": "case"}])
    found = config.load(path)
    assert [group.name for group in found.behaviour] == ["g"]
    assert config.PipelineConfig.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert config.load(path).fingerprint == found.fingerprint
    assert all("behaviour" in flow.step_named(name).sections for name in ("evaluate", "verify"))
    loaded(tmp_path, groups=[{"name": "g", "kind": "invarance", "change": "case"}])
    with pytest.raises(config.ConfigError, match=r"a\.yaml, group 'g'\.kind: found 'invarance'.*mean 'invariance'"):
        config.load(path, ["train.epochs=0"])
    path.write_text(path.read_text() + "behaviour: []\n")
    with pytest.raises(config.ConfigError, match="behaviour: unknown key"):
        config.load(path)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"kind": "minimum", "cases": [{"text": "x", "lable": "a"}]}, "case 1.lable: unknown key"),
        ({"kind": "minimum", "cases": [{"text": "x"}]}, "case 1: label: is missing"),
        (
            {"kind": "minimum", "cases": [{"label": "a"}]},
            "case 1: found no question; text-classification is asked text",
        ),
        ({"kind": "minimum", "cases": [{"text_a": "x", "text_b": "y", "label": "a"}]}, "is asked text"),
        ({"kind": "minimum", "cases": [{"text": "x", "label": True}]}, "true and false are not allowed here"),
        ({"kind": "minimum", "cases": [{"text": 3, "label": "a"}]}, "case 1.text: found 3"),
        ({"kind": "minimum", "cases": []}, "found none; allowed: cases"),
        ({"kind": "minimum", "change": "case", "cases": [{"text": "x", "label": "a"}]}, "only an invariance"),
        ({"kind": "invariance", "cases": [{"text": "x", "same": ["y"]}], "change": "case"}, "found both"),
        ({"kind": "invariance", "change": "cases"}, "did you mean 'case'"),
        ({"kind": "invariance", "change": "case", "rows": 0}, "rows: found 0"),
        ({"kind": "invariance", "cases": [{"text": "x", "label": "a"}]}, "same: is missing"),
        ({"kind": "invariance", "cases": [{"text": "x", "same": [["y", "z"]]}]}, "is asked texts"),
        ({"kind": "direction", "cases": [{"text": "x", "than": "y"}]}, "label: is missing"),
        ({"kind": "direction", "label": "a", "cases": [{"text": "x", "than": 3}]}, "case 1.than: found 3"),
        ({"kind": "minimum", "lest": 0.9, "cases": [{"text": "x", "label": "a"}]}, "did you mean 'least'"),
        ({"kind": "minimum", "least": 2, "cases": [{"text": "x", "label": "a"}]}, "least: found 2"),
        ({"kind": ["minimum"], "cases": [{"text": "x", "label": "a"}]}, "kind: found 'list'"),
    ],
)
def test_a_fault_names_file_group_and_case(tmp_path: Path, group: dict[str, Any], said: str) -> None:
    found = one(tmp_path, **group)
    assert said in "\n".join(found)
    assert all(fault.startswith("tests/behaviour/a.yaml, group 'g'") for fault in found)


@pytest.mark.parametrize(
    ("task", "group", "said"),
    [
        ("text-ranking", {"kind": "minimum", "cases": [{"text_a": "x", "text_b": "y", "label": 1}]}, "no right answer"),
        (
            "text-pair-classification",
            {"kind": "invariance", "cases": [{"text": "x", "same": ["y"]}]},
            "text_a and text_b",
        ),
        (
            "text-pair-classification",
            {"kind": "invariance", "cases": [{"text_a": "x", "text_b": "y", "same": ["z"]}]},
            "is asked {text_a",
        ),
        (
            "token-classification",
            {"kind": "direction", "label": "O", "cases": [{"text": "x", "than": "y"}]},
            "direction",
        ),
        ("token-classification", {"kind": "invariance", "change": "whitespace"}, "white space parts tokens"),
        ("token-classification", {"kind": "minimum", "cases": [{"tokens": "a b", "tags": "O"}]}, "1 tags for 2 tokens"),
        ("token-classification", {"kind": "minimum", "cases": [{"text": "a", "label": "O"}]}, "tags: is missing"),
    ],
)
def test_what_a_task_does_not_have_is_said(tmp_path: Path, task: str, group: dict[str, Any], said: str) -> None:
    found = one(tmp_path, task, **group)
    assert said in "\n".join(found)


def test_every_fault_at_once(tmp_path: Path) -> None:
    place = tmp_path / "tests" / "behaviour"
    place.mkdir(parents=True)
    (place / "a.yaml").write_text("task: text-classification\ntask: text-clasification\ngroups: []\n")
    (place / "b.yaml").write_text("- x\n")
    (place / "c.yaml").write_text("task: [\n")
    good = "{name: g, kind: invariance, change: case}"
    (place / "d.yaml").write_text(f"task: text-classification\ngroups: [{good}, {good}]\ngrups: 1\n")
    (place / "e.yaml").write_text(f"task: text-classification\ngroups: [{good}, {good}]\n")
    found = "\n".join(load_behaviour(tmp_path, "text-classification", "t")[1])
    for part in (
        "a.yaml: task: stands twice",
        "did you mean 'text-classification'",
        "b.yaml: found list",
        "c.yaml: cannot be read as YAML",
        "did you mean 'groups'",
        "e.yaml, group 'g': stands in tests/behaviour/e.yaml too",
    ):
        assert part in found


def test_minimum_and_direction_on_a_model_whose_answers_are_known() -> None:
    cases = [{"text": "apple", "label": "a"}, {"text": "bee", "label": "a"}, {"text": "x", "label": "new"}]
    more = [{"text": "b!!", "than": "b"}, {"text": "b", "than": "b!!"}]
    found = examine(
        groups(
            {"kind": "minimum", "cases": cases},
            {"kind": "minimum", "cases": cases[2:], "severity": "fail"},
            {"kind": "direction", "label": "b", "cases": more},
            {"kind": "direction", "label": "new", "cases": more},
        ),
        Words(),
        get("text-classification"),
        [],
    )
    assert [(each.cases, each.passed) for each in found] == [(2, 1), (0, 0), (2, 1), (0, 0)]
    assert found[0].failures == ("'bee': found b, expected a",)
    assert found[1].failures == ("all 1 cases left out: the model has no label new",)
    assert (found[1].severity, found[2].least) == ("fail", 1.0)
    assert "the probability of b of 'b'" in found[2].failures[0]
    assert "all 2 cases left out" in found[3].failures[0]


def test_an_invariance_says_which_text_has_another_answer() -> None:
    cases = [{"text": "apple", "same": ["ant", "all"]}, {"text": "apple", "same": ["ant", "boat"]}]
    (found,) = examine(groups({"kind": "invariance", "cases": cases}), Words(), get("text-classification"), [])
    assert (found.cases, found.passed) == (2, 1)
    assert found.failures == ("'apple' is a, but 'boat' is b",)


def test_rows_are_changed_the_same_every_time_whatever_their_order() -> None:
    rows: list[tuple[str, Item]] = [(f"r{number}", f"apple Number {number}") for number in range(50)]
    rows += [("marks", "apple"), ("empty", "")]

    def asked(given: list[tuple[str, Item]], change: str, most: int = 20) -> Behaviour:
        rules = groups({"kind": "invariance", "change": change, "rows": most})
        return examine(rules, Words(), get("text-classification"), given)[0]

    for change in CHANGES[:4]:
        assert asked(rows, change) == asked(rows[::-1], change)
        assert asked(rows, change).cases == 20
    assert asked(rows, "whitespace").passed == 0  # this model minds a blank at the start
    assert asked(rows, "punctuation", 100).cases == 51
    none = asked(rows, "repeated-marks")
    assert (none.cases, none.failures) == (0, ("there is no test row that repeated-marks changes",))
    fewer = {failure.split(":")[0] for failure in asked(rows, "whitespace", 5).failures}
    assert len(fewer) == 5
    assert fewer <= {failure.split(":")[0] for failure in asked(rows, "whitespace", 10).failures}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("item", [*HOSTILE, ("", "a"), ("Ab. Cd!", "Ef?"), [], ["A"], ["."], ["Anna", "sings", "!"]])
def test_a_change_changes_or_says_that_it_cannot(change: str, item: Item) -> None:
    found = changed(change, item, "seed")
    assert found == changed(change, item, "seed")
    assert found is None or (type(found) is type(item) and found != item)
    if isinstance(found, list):
        assert all(found)


def test_what_changes_look_like() -> None:
    text = "Great film! See it."
    assert changed("case", text, "1") == "great film! see it."
    assert changed("case", "great", "1") == "GREAT"
    assert changed("punctuation", text, "1") == "Great film! See it"
    assert changed("punctuation", "Great", "1") == "Great."
    assert changed("repeated-marks", text, "1") == "Great film!!! See it..."
    assert changed("repeated-marks", "a 3.5 b", "1") is None
    typo = changed("typo", text, "1")
    assert sorted(str(typo)) == sorted(text)
    assert str(changed("whitespace", text, "1")).split() == text.split()
    assert changed("punctuation", ["Anna", "sings", "."], "1") == ["Anna", "sings"]


def test_tags_of_tokens() -> None:
    minimum = [
        {"tokens": ["Anna", "sings"], "tags": ["B-name", "O"]},
        {"text": "Anna Lee sings.", "tags": "B-name I-name O O"},
        {"text": "Anna sings.", "tags": "I-name O"},
        {"tokens": "we sing", "tags": "B-name O"},
        {"tokens": "we sing", "tags": "B-thing O"},
    ]
    same = [
        {"tokens": ["Anna", "sings"], "same": [["Anna", "Lee", "sings"], "Bob sings"]},
        {"text": "Anna sings", "same": ["anna sings"]},
    ]
    rows: list[tuple[str, Item]] = [("1", ["Anna", "sings", "."]), ("2", ["we", "sing"]), ("3", [])]
    found = examine(
        groups(
            {"kind": "minimum", "cases": minimum},
            {"kind": "invariance", "cases": same},
            {"kind": "invariance", "change": "punctuation"},
            {"kind": "invariance", "change": "case"},
        ),
        Tagger(),
        get("token-classification"),
        rows,
    )
    assert [(each.cases, each.passed) for each in found] == [(4, 2), (2, 1), (2, 2), (2, 0)]
    assert any("has 3 tokens and 2 tags" in failure for failure in found[0].failures)


def test_several_labels_and_rankings() -> None:
    cases = [{"text": "a", "label": ["a"]}, {"text": "b", "label": "b"}, {"text": "c", "label": []}]
    several = examine(groups({"kind": "minimum", "cases": cases}), Words(), get("text-classification:multi"), [])
    assert (several[0].cases, several[0].passed) == (
        3,
        0,
    )  # a logit of 0 is a probability of .5, from which a label is given
    pairs = [{"text_a": "b", "text_b": "y", "than": {"text_a": "a", "text_b": "y"}}]

    class Grades(Words):
        labels = ("0", "1", "2")

    rules = groups(
        {"kind": "direction", "cases": pairs},
        {"kind": "invariance", "cases": [{"text_a": "b", "text_b": "y", "same": [["a", "y"]]}]},
    )
    ordered = examine(rules, Grades(), get("text-ranking"), [("1", ("a", "B."))])
    assert [each.passed for each in ordered] == [1, 0]
    assert ordered[1].failures == ("'b / y' is 1, but 'a / y' is 0",)


def test_a_question_that_breaks_the_model_fails_by_itself() -> None:
    cases = [{"text": "apple", "label": "a"}, {"text": "a boom", "label": "a"}]
    (found,) = examine(groups({"kind": "minimum", "cases": cases}), Words(), get("text-classification"), [])
    assert (found.cases, found.passed) == (2, 1)
    assert found.failures == ("'a boom': the model has no answer: ValueError: boom",)


@pytest.mark.parametrize("variant", ["torch", "fp32", "int8"])
def test_real_models_answer_whatever_they_are_asked(variant: str) -> None:
    folder = tiny_models()[variant]
    predictor = TorchPredictor(folder) if variant == "torch" else Runtime.load(folder)
    cases = [{"text": METAL, "label": "metals"}, {"text": PLANT, "label": "plants"}]
    hostile = [{"text": text, "same": HOSTILE} for text in HOSTILE]
    rows: list[tuple[str, Item]] = [(str(place), row["text"]) for place, row in enumerate(tiny_rows(60, seed=4))]
    rows += [(f"odd {place}", text) for place, text in enumerate(HOSTILE)]
    rules = groups(
        {"kind": "minimum", "cases": cases},
        {"kind": "invariance", "cases": hostile},
        {
            "kind": "direction",
            "label": "metals",
            "cases": [{"text": METAL, "than": PLANT}, {"text": PLANT, "than": METAL}],
        },
        *({"kind": "invariance", "change": change, "rows": 1000} for change in CHANGES),
    )
    found = examine(rules, predictor, get("text-classification"), rows)
    assert (found[0].passed, found[2].passed) == (2, 1)
    by_change = dict(zip(CHANGES, found[3:], strict=True))
    assert by_change["whitespace"].passed == by_change["whitespace"].cases >= 60
    for each in found:
        assert Behaviour.model_validate_json(each.model_dump_json()) == each


def test_the_files_that_ship_are_in_order() -> None:
    root = Path(__file__).resolve().parent.parent
    for task, pipeline, least in (
        ("text-classification", "news-topics", 15),
        ("token-classification", "entities", 0),
    ):
        found, faults = load_behaviour(root, task, pipeline)
        assert not faults
        assert {group.severity for group in found} == {"warn"}
        assert sum(len(group.cases) for group in found) >= least


def test_the_demos_cases_have_the_labels_of_its_data() -> None:
    loaded = config.load(Path(__file__).resolve().parent.parent / "pipelines" / "news-topics.yaml")
    (labels,) = {tuple(each.kwargs["value_set"]) for each in loaded.suite if each.kwargs.get("column") == "label"}
    own = {case.label for group in loaded.behaviour for case in group.cases} | {each.label for each in loaded.behaviour}
    assert own - {None} == set(labels)
