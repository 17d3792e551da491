"""`mlops …`: the same functions from a shell. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 2 the user's mistake, 3 a data set or candidate was rejected, 1 our own fault.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from mlops import __version__, settings

log = logging.getLogger("evergreen")

Command = Callable[[argparse.Namespace], tuple[Any, int]]


def parser() -> argparse.ArgumentParser:
    """Every command with its options; nothing heavy is imported for it."""
    from mlops import commands, commands_serve

    top = argparse.ArgumentParser(
        prog="mlops",
        description="Evergreen keeps fine-tuned transformers fresh: retrain, judge, compress, register, serve.",
        epilog="Everything lives under EVERGREEN_HOME (default ./var). EVERGREEN_STORE and MLFLOW_TRACKING_URI override.",
    )
    top.add_argument("--version", action="version", version=f"evergreen {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("--end-with-parent", action="store_true", help=argparse.SUPPRESS)  # of what Airflow starts
    sub = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        command = sub.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        return command

    def pipeline(command: argparse.ArgumentParser) -> None:
        command.add_argument("pipeline", metavar="PIPELINE", help="a pipeline file, such as pipelines/news-topics.yaml")
        command.add_argument(
            "--set",
            dest="overrides",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="override a setting",
        )

    def as_json(command: argparse.ArgumentParser) -> None:
        command.add_argument("--json", action="store_true", help="print one JSON object or array")

    check = add("check", commands.check, "check a pipeline file, its data and its base model; nothing is trained")
    pipeline(check)
    as_json(check)
    run = add("run", commands.run, "retrain: source, validate, prepare, fine-tune, judge, compress, register, promote")
    pipeline(run)
    run.add_argument("--force", action="store_true", help="retrain although nothing has changed")
    as_json(run)
    init = _expectations_init(sub.add_parser("expectations", help="init: write a first suite from the data"))
    pipeline(init)
    init.add_argument("--force", action="store_true", help="write over an existing suite")
    step = add(
        "step", commands.step, "run one step: JSON {config, run, values} on stdin, JSON {output, seconds} on stdout"
    )
    step.add_argument("name", metavar="NAME", help="source, validate, prepare, fine_tune, evaluate, …")
    step.add_argument("--input", metavar="FILE", help="read the JSON from a file instead of stdin")
    step.add_argument("--die-with-parent", action="store_true", help="end when the process that started this one ends")
    predict = add("predict", commands.predict, "classify texts with a registered model; one JSON object per line")
    predict.add_argument("model", metavar="MODEL[@ALIAS]", help="a registered model; the alias is champion by default")
    texts = predict.add_mutually_exclusive_group(required=True)
    texts.add_argument("--text", action="append", metavar="T", help="a text; may be given several times")
    texts.add_argument("--file", metavar="F.jsonl", help='a file of JSON strings or {"text": …} objects, one per line')
    serve = add(
        "serve", commands_serve.serve, "answer POST /v1/predict with the model behind an alias; follows the alias"
    )
    _serve_options(serve)
    for command in (*_versions(add), _keys(sub.add_parser("keys", help="add, list, remove: API keys of the server"))):
        as_json(command)
    for command in _moves(add):
        as_json(command)
    doctor = add("doctor", commands.doctor, "what this machine and these settings can do")
    as_json(doctor)
    return top


def _moves(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> list[argparse.ArgumentParser]:
    """Those that tell what they found are given back, for their options."""
    from mlops import commands_registry

    promote = add("promote", commands_registry.promote, "let a registered version serve")
    promote.add_argument("model", metavar="MODEL")
    promote.add_argument("version", metavar="VERSION")
    promote.add_argument("--reason", required=True, metavar="R")
    back = "let a version that served before serve again, once it has answered as it did then"
    rollback = add("rollback", commands_registry.rollback, back)
    rollback.add_argument("model", metavar="MODEL")
    rollback.add_argument("--reason", required=True, metavar="R")
    rollback.add_argument("--to", metavar="VERSION", help="one that served before; by default the last of them")
    left = "find and mend what crashes and hands left in registry and store; each retrain begins with it"
    reconcile = add("reconcile", commands_registry.reconcile, left)
    reconcile.add_argument("model", metavar="MODEL", nargs="?", help="by default all of them")
    reconcile.add_argument("--dry-run", action="store_true", help="only tell; exit 1 where there is something to mend")
    young = "what looks unfinished and is younger may be somebody's work and is left alone (24)"
    reconcile.add_argument("--older-than", type=float, default=24.0, metavar="HOURS", help=young)
    return [reconcile, _gc(add)]


def _gc(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    from mlops import commands_registry

    gc = add("gc", commands_registry.gc, "remove what no release, no ledger entry and no recent retrain needs")
    gc.add_argument("--keep", type=int, default=5, metavar="N", help="the last N versions of each model stay (5)")
    stays = "what served, was made or was used within D days stays; so do champion, previous and candidate (90)"
    gc.add_argument("--days", type=float, default=90.0, metavar="D", help=stays)
    gc.add_argument("--dry-run", action="store_true", help="only tell")
    return gc


def _versions(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> list[argparse.ArgumentParser]:
    from mlops import commands, commands_registry

    releases = add("releases", commands_registry.releases, "the registered versions of a model, with the ledger")
    releases.add_argument("model", metavar="MODEL")
    releases.add_argument("--at", metavar="TIME", help='which version served then, such as "2026-03-01 12:00" (UTC)')
    compare = add("compare", commands.compare, "two registered versions of a model on the same test rows, paired")
    compare.add_argument("model", metavar="MODEL")
    compare.add_argument("a", metavar="A", help="a version or alias, such as champion: what B is compared with")
    compare.add_argument("b", metavar="B", help="a version or alias")
    rows = "score both again on the test rows of this pipeline's data as it is now"
    compare.add_argument("--data", metavar="PIPELINE", help=rows)
    explain = add(
        "explain", commands.explain, "why a retrain was promoted or not: one sentence, one table, the whole record"
    )
    explain.add_argument(
        "run_name", metavar="RUN", help="an MLflow run id, a retrain id, or a pipeline's name for its newest"
    )
    explain.add_argument(
        "--subject", metavar="S", help="candidate, int8, fp32; by default what ships, else the candidate"
    )
    explain.add_argument(
        "--again", action="store_true", help="judge again from the record; exit 1 where anything differs"
    )
    return [releases, compare, explain]


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("model", metavar="MODEL")
    serve.add_argument("--alias", default="champion")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080)
    keys = "ask for API keys: auto does beyond loopback"
    serve.add_argument("--auth", choices=("auto", "on", "off"), default="auto", help=keys)
    serve.add_argument("--log", choices=("json", "text", "quiet"), default="json", help="a line per request, or none")
    kept = "what the store keeps of each answer: its text, a hash of it, or nothing"
    serve.add_argument("--predictions", choices=("hash", "text", "off"), default="hash", help=kept)
    rollout = serve.add_mutually_exclusive_group()
    canary = "try @candidate: it answers this share of the requests, by default that of its pipeline's rollout section"
    rollout.add_argument("--canary", nargs="?", const="", metavar="SHARE", help=canary)
    shadow = "try @candidate: it is asked this share of the requests, which the champion answers"
    rollout.add_argument("--shadow", nargs="?", const="", metavar="SHARE", help=shadow)
    waiting = "texts that may wait; more are refused with 429 (512)"
    serve.add_argument("--max-waiting", type=int, default=512, metavar="N", help=waiting)
    serve.add_argument("--max-body", type=int, default=2_000_000, metavar="BYTES", help="of one request (2000000)")
    serve.add_argument("--deadline", type=float, default=30.0, metavar="SECONDS", help="most that a request waits (30)")
    drain = "from SIGTERM, when readiness goes down, until no new connection is taken (2)"
    serve.add_argument("--drain", type=float, default=2.0, metavar="SECONDS", help=drain)


def _keys(keys: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The one that lists is given back, for its options."""
    from mlops import commands_serve

    keys.description = "API keys of the server; a running one takes them over within a second"
    under = keys.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    add = under.add_parser("add", help="make a key; it is printed once and kept nowhere")
    add.set_defaults(run=commands_serve.keys_add)
    add.add_argument("name", metavar="NAME", help="whose key it is")
    scopes = "predict, feedback, metrics, reload; may be given several times (predict and feedback)"
    add.add_argument("--scope", action="append", metavar="S", help=scopes)
    add.add_argument("--days", type=float, metavar="N", help="after how many days it ends")
    remove = under.add_parser("remove", help="take a key out")
    remove.set_defaults(run=commands_serve.keys_remove)
    remove.add_argument("id", metavar="ID")
    listed = under.add_parser("list", help="the keys there are")
    listed.set_defaults(run=commands_serve.keys_list)
    return listed


def _expectations_init(suites: argparse.ArgumentParser) -> argparse.ArgumentParser:
    from mlops import commands

    suites.description = "the suites that the data is judged by"
    under = suites.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    words = "write a first suite from a profile of the data"
    init = under.add_parser("init", help=words, description=words)
    init.set_defaults(run=commands.expectations_init)
    return init


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    options = parser().parse_args(arguments)
    from mlops.errors import EvergreenError

    out = _own_stdout()
    try:
        _prepare_process()
        if options.end_with_parent:
            from mlops.process import die_with_parent

            die_with_parent()
        result, code = options.run(options)
        if result is not None:
            print(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False), file=out, flush=True)
        return int(code)
    except EvergreenError as error:
        if options.debug:
            raise
        print(f"mlops {options.command}: {error}", file=sys.stderr)
        _tell(options, out)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"mlops {options.command}: stopped by the keyboard", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        log.debug("the traceback", exc_info=True)
        print(f"mlops {options.command}: a fault of Evergreen's own or of a service it needs", file=sys.stderr)
        print(f"  {type(error).__name__}: {error}\n  --debug before the command shows the traceback", file=sys.stderr)
        _tell(options, out)
        return 1


def _tell(options: argparse.Namespace, out: TextIO) -> None:
    """What a command that failed has to say to a machine, as a result would be; most have nothing."""
    if told := getattr(options, "told", None):
        print(json.dumps(told, ensure_ascii=False), file=out, flush=True)


def _prepare_process() -> None:
    """Quiet libraries, and progress of our own on stderr."""
    settings.quiet()
    for name, value in (("TOKENIZERS_PARALLELISM", "true"), ("TQDM_DISABLE", "1")):
        os.environ.setdefault(name, value)
    level = os.environ.get("EVERGREEN_LOG", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        from mlops.errors import UserError

        raise UserError(f"EVERGREEN_LOG is {level!r}; allowed: DEBUG, INFO, WARNING, ERROR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


def _own_stdout() -> TextIO:
    """The real stdout, for results alone; whatever a library prints goes to stderr from here on."""
    try:
        sys.stdout.flush()
        kept = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):  # a stdout without a file, as under a test runner
        return sys.stdout
    return os.fdopen(kept, "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
