"""Commands of the documentation: found in the pages, and held against what there is."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
# What is left unchecked, and why.
UNCHECKED = {
    "git": "clones from wherever the reader got the address",
    "cd": "a folder of the reader's",
    "source": "the environment that `make setup` makes",
    "openssl": "a tool of the system; tests/test_signing.py makes such keys",
    "ss": "a tool of the system",
}
_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^ *```$", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+)`")
_PROGRAMS = ("mlops", "make", "python", "docker", "curl", *UNCHECKED)


class Block(NamedTuple):
    """A fenced block; kind is what stands behind its fence."""

    kind: str
    body: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(match["kind"], match["body"]) for match in _FENCE.finditer(text)]


def lines(body: str) -> list[str]:
    """The commands of a block: continued lines joined, comments gone."""
    joined = body.replace("\\\n", " ")
    found = (line.strip().removeprefix("$ ") for line in joined.splitlines())
    return [line for line in found if line and not line.startswith("#")]


def fenced(text: str) -> list[str]:
    """The commands of all shell blocks; a block without a kind is one when it begins with a program that is known."""
    found = []
    for block in blocks(text):
        first = (lines(block.body) or [""])[0].split()
        plain = block.kind == "" and first and (first[0] in _PROGRAMS or "=" in first[0])
        if block.kind in ("bash", "sh", "console") or plain:
            found += lines(block.body)
    return found


def inline(text: str) -> list[str]:
    """Commands that stand in a sentence, often with MODEL and the like in them."""
    without = _FENCE.sub("", text).replace("\\|", "|")
    return [
        span for span in _SPAN.findall(without) if re.match(r"(mlops|make|docker compose|python \S+\.py)( |$)", span)
    ]


def fault(command: str) -> str:
    """What is wrong with a command of a shell block; nothing where all of it exists."""
    for part in re.split(r"\s&&\s", command):
        words = shlex.split(part, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words and (wrong := _fault(words)):
            return wrong
    return ""


def _fault(words: Sequence[str]) -> str:
    program = Path(words[0]).name
    if program in UNCHECKED:
        return ""
    known = {"mlops": _mlops, "make": _make, "python": _python, "docker": _docker, "curl": _curl, "pip": _pip}
    return known[program](words[1:]) if program in known else f"nobody checks {program!r}: tests/docs_commands.py"


def _mlops(words: Sequence[str]) -> str:
    from mlops import cli

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.parser().parse_args(words)
    except SystemExit as error:
        return said.getvalue() if error.code else ""
    return ""


@functools.cache
def targets() -> frozenset[str]:
    """What `make` can be asked for."""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def _make(words: Sequence[str]) -> str:
    wrong = [word for word in words if "=" not in word and word not in targets()]
    return f"make has no {', '.join(wrong)}; it has {', '.join(sorted(targets()))}" if wrong else ""


def _python(words: Sequence[str]) -> str:
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
        return ""
    if words[0] == "-m":
        if words[1] == "mlops":
            return _mlops(words[2:])
        paths = [word for word in words[2:] if word.startswith("tests/")]
        missing = [path for path in paths if not (ROOT / path).exists()]
        if words[1] not in ("pytest", "venv") or missing:
            return f"python -m {words[1]}: {', '.join(missing) or 'nobody checks it'}"
        return ""
    return _script(words[0], words[1:])


def _script(name: str, words: Iterable[str]) -> str:
    path = ROOT / name
    if not path.is_file():
        return f"there is no {name}"
    text = path.read_text(encoding="utf-8")
    wrong = [word for word in words if word.startswith("--") and f'"{word.partition("=")[0]}"' not in text]
    return f"{name} has no {', '.join(wrong)}" if wrong else ""


def _docker(words: Sequence[str]) -> str:
    known = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    profiles = {name for service in known.values() for name in service.get("profiles", ())}
    if words[:1] != ["compose"]:
        return "only docker compose is checked"
    rest = list(words[1:])
    while rest[:1] == ["--profile"]:
        if rest[1] not in profiles:
            return f"docker compose has no profile {rest[1]}"
        rest = rest[2:]
    if not rest:
        return ""
    if rest[0] in ("exec", "run"):
        return _fault(rest[2:]) if rest[1] in known else f"docker compose has no service {rest[1]}"
    if rest[0] not in ("up", "down", "ps", "logs", "build"):
        return f"nobody checks docker compose {rest[0]}"
    wrong = [word for word in rest[1:] if not word.startswith("-") and word not in known]
    return f"docker compose has no service {', '.join(wrong)}" if wrong else ""


def _curl(words: Sequence[str]) -> str:
    """The route of our own server, or of Airflow's API; bodies are sent by tests/serving."""
    from mlops.serving import access

    address = next(word for word in words if "/" in word and not word.startswith("Content"))
    path = "/" + address.removeprefix("http://").partition("/")[2]
    if address.startswith("$AIRFLOW"):
        return "" if path.startswith("/api/v2/") else f"Airflow has no {path}"
    return "" if access.template(path) else f"the server has no {path}"


def _pip(words: Sequence[str]) -> str:
    return "" if words[0] == "install" else f"pip {words[0]}"


def inline_fault(span: str) -> str:
    """What is wrong with a command in a sentence: its subcommand, target, file or options; not what it is given."""
    words = re.sub(r"[\[\]()|]", " ", span).split()
    options = [word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]
    if words[0] == "mlops":
        return _inline_mlops(words[1:], options)
    if words[0] == "make":
        return _make([word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)])
    if words[0] == "python":
        return _script(words[1], options)
    return "" if len(words) == 2 else _docker(words[1:])


def _inline_mlops(words: Sequence[str], options: Sequence[str]) -> str:
    from mlops import cli

    parser = cli.parser()
    known = {name for action in parser._actions for name in action.option_strings}
    for word in words:
        under = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not under:
            break
        choices = under[0].choices
        if not re.fullmatch(r"[a-z]+", word):
            continue
        if word not in choices:
            return f"mlops has no {word}; it has {', '.join(choices)}"
        parser = choices[word]
        known |= {name for action in parser._actions for name in action.option_strings}
        for action in parser._actions:  # `mlops keys (add … | list | remove ID)` has the options of all three
            if isinstance(action, argparse._SubParsersAction):
                for each in action.choices.values():
                    known |= {name for own in each._actions for name in own.option_strings}
    wrong = [option for option in options if option not in known]
    return f"mlops has no {', '.join(wrong)} there" if wrong else ""
