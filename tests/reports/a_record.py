"""Records of judgements as reports get them: one with everything in it, one that ended early, one that means harm."""

from __future__ import annotations

import math
from typing import Any

HARM = "\"><script>document.title=1</script><img src=http://elsewhere.example/p.png onerror=document.title=2>'{{ 7*7 }}"
LONG = "x" * 1000  # no blank in it
ARABIC = "\u202eالخدمة كانت سيئة جدا\u202c\u0000\ud800 🙂🏳️‍🌈"


def around(value: float, half: float = 0.018, n: int | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"value": value, "low": value - half, "high": value + half}
    return told if n is None else {**told, "n": n}


def check(name: str, observed: Any, allowed: Any, outcome: str = "pass", detail: str = "") -> dict[str, Any]:
    return {"name": name, "observed": observed, "allowed": allowed, "unit": "", "outcome": outcome, "detail": detail}


def part(name: str, kind: str, rows: int, gap: float | None, outcome: str = "pass", p: float = 1.0) -> dict[str, Any]:
    told = {"name": name, "kind": kind, "rows": rows, "outcome": outcome, "p_adjusted": p, "champion": None}
    told["metric"] = "share of rows answered right" if kind == "discovered" else "macro_f1"
    if gap is None:
        return {**told, "p_adjusted": None, "candidate": None, "difference": None}
    half = 1.1 / math.sqrt(rows)
    theirs = None if kind == "discovered" else around(0.79, half)
    return {**told, "candidate": around(0.79 + gap, half), "champion": theirs, "difference": around(gap, half * 0.8)}


def row(number: int, text: str, **more: str) -> dict[str, str]:
    return {"row_id": f"{number:08x}", "text": text, **more}


CHECKS = [
    check("min_rows", 1464, ">= 10", detail="test rows, or what they are sampled by"),
    check("looks", 3, "< 12", detail="this look may err with 0.0042, all so far with 0.038 of 0.05"),
    check("floor", 0.8034, ">= 0.7", detail="macro_f1 0.8034, interval 0.7799 to 0.8251 over 1464 rows"),
    check("majority_baseline", 0.4868, "> 0", detail="always 'negative' reaches macro_f1 0.2561; the gain is +0.5473"),
    check("baseline:tfidf", 0.0191, "> 0", detail="tfidf reaches macro_f1 0.7442; the gain over it is +0.0592"),
    check(
        "against_champion",
        -0.0037,
        "> -0.01",
        detail="as good: macro_f1 +0.0123 against the champion, 99.2% interval -0.0037 to +0.0284 over 1464 rows",
    ),
    check(
        "slices", -0.0412, ">= -0.03", "fail", "airline: Virgin America: macro_f1 -0.1210 on 104 rows, adjusted p 0.004"
    ),
    check("calibration", 0.0213, "<= 0.05", detail="expected calibration error, interval 0.0164 to 0.0311"),
    check("golden", 0.95, ">= 0.9", detail="19 of 20 golden rows answered right"),
    check("behaviour:negation", 0.9, ">= 0.95", "warn", "18 of 20 minimum cases; 'not bad at all' is negative"),
]
SLICES = [
    part("airline: Virgin America", "declared", 104, -0.121, "fail", 0.004),
    part("airline: Southwest", "declared", 242, -0.041, "warn", 0.31),
    part("airline: Delta", "declared", 222, 0.006),
    part("airline: United", "declared", 382, 0.024),
    part("n_tokens > 32", "declared", 311, 0.031),
    part("airline: Jet Blue", "declared", 12, None),
    part("rows that the champion was judged on", "forgetting", 640, 0.004, "pass", 0.72),
    part("label: neutral", "discovered", 310, -0.142, "warn", 0.001),
    part("n_tokens <= 9", "discovered", 366, -0.048, "pass", 0.22),
]
CONFUSIONS = [
    {
        "label": "neutral",
        "predicted": "negative",
        "rows": 71,
        "examples": [
            row(11, "@united is flight 1583 still leaving on time tonight?"),
            row(12, "What is the baggage allowance on the Boston route?"),
        ],
    },
    {"label": "positive", "predicted": "neutral", "rows": 1, "examples": [row(13, "on my way home with you folks")]},
]


def full() -> dict[str, Any]:
    """A judgement in which every part has something to tell."""
    bins = [
        (0.42, 0.45, 31),
        (0.51, 0.49, 94),
        (0.63, 0.58, 151),
        (0.75, 0.73, 214),
        (0.86, 0.88, 308),
        (0.96, 0.95, 666),
    ]
    curve = [{"low": c - 0.05, "high": c + 0.05, "confidence": c, "accuracy": a, "rows": n} for c, a, n in bins]
    hands = {"label": "negative", "candidate": "negative", "champion": "neutral"}
    broken = {"label": "positive", "candidate": "neutral", "champion": "positive"}
    return {
        "format": 1,
        "subject": "int8",
        "task": "text-classification",
        "metric": "macro_f1",
        "sentence": "The int8 file is as good as the champion within 0.01: macro_f1 0.8034 on 1,464 rows, difference +0.0123, "
        "at least -0.0037 with 99.6% confidence; it is kept out by one slice, airline: Virgin America.",
        "outcome": "fail",
        "rules": {
            "metric": "macro_f1",
            "floor": 0.7,
            "margin": 0.01,
            "alpha": 0.05,
            "max_slice_drop": 0.03,
            "max_ece": 0.05,
            "golden": {"source": "golden.jsonl", "floor": 0.9},
            "slices": [{"column": "airline"}, {"expression": "n_tokens > 32"}],
            "baselines": None,
        },
        "inputs": {
            "snapshot": "ab" * 32,
            "candidate": {"model_sha256": "cd" * 32, "per_row": {"kind": "rows", "sha256": "ef" * 32}},
            "champion": {"model_sha256": "12" * 32, "per_row": "34" * 32},
            "baselines": {"tfidf": "56" * 32},
        },
        "seed": 0,
        "look": {
            "number": 3,
            "alpha": 0.0042,
            "alpha_total": 0.05,
            "refresh": False,
            "detail": "look 3 at these test rows; from look 12 on they ought to be refreshed",
        },
        "checks": CHECKS,
        "candidate": around(0.8034, 0.0226, 1464),
        "champion": around(0.7911, 0.0231, 1464),
        "champion_version": "3",
        "difference": {
            "value": 0.0123,
            "low": -0.0037,
            "high": 0.0284,
            "n": 1464,
            "units": "rows",
            "detectable": 0.0184,
            "rows_to_settle": None,
            "level": 0.9917,
        },
        "baselines": [
            {"name": "majority", "value": 0.2561, "gain": 0.5473, "low": 0.4868, "high": 0.5912},
            {"name": "tfidf", "value": 0.7442, "gain": 0.0592, "low": 0.0191, "high": 0.0934},
        ],
        "slices": SLICES,
        "calibration": {"temperature": 1.31, "ece": {"value": 0.0213, "low": 0.0164, "high": 0.0311}, "bins": curve},
        "confusions": CONFUSIONS,
        "changed": {
            "fixed": 62,
            "broken": 44,
            "examples": {
                "fixed": [row(21, "three hours on the tarmac and not one word from the crew", **hands)],
                "broken": [row(22, "finally landed, kudos to the ground staff", **broken)],
            },
        },
        "noise_ceiling": {"noise_rate": 0.031, "value": 0.9488},
        "golden": {
            "rows": 20,
            "right": 19,
            "wrong": [row(31, "thanks for nothing", label="negative", predicted="positive")],
        },
        "behaviour": [
            {
                "name": "negation",
                "kind": "minimum",
                "cases": 20,
                "passed": 18,
                "least": 0.95,
                "severity": "warn",
                "failures": ["'not bad at all': negative, allowed positive"],
            },
            {
                "name": "names of airlines",
                "kind": "invariance",
                "cases": 40,
                "passed": 40,
                "least": 1.0,
                "severity": "fail",
                "failures": [],
            },
        ],
    }


def minimal() -> dict[str, Any]:
    """Every key of the schema with as little behind it as it may have."""
    empty: dict[str, Any] = dict.fromkeys(full())
    lists: dict[str, Any] = {name: [] for name in ("checks", "baselines", "slices", "confusions", "behaviour")}
    told = {"format": 1, "subject": "candidate", "task": "text-classification", "sentence": "", "outcome": "fail"}
    return {**empty, **lists, **told, "rules": {}, "inputs": {}, "metric": "macro_f1"}


def early() -> dict[str, Any]:
    """As it is where a model does not even have the metric: keys are missing."""
    kept = ("format", "subject", "task", "metric", "sentence", "outcome", "rules", "inputs", "seed", "look")
    checks = [check("metric", "macro_f1", "f1, precision, recall", "fail", "names a metric that it does not have")]
    told = {name: value for name, value in full().items() if name in kept}
    return {
        **told,
        "checks": checks,
        "candidate": None,
        "champion": None,
        "golden": None,
        "behaviour": [],
        "changed": None,
    }


def hostile() -> dict[str, Any]:
    """Markup, texts without blanks, right to left, not even text, and hundreds of everything."""
    names = [HARM, LONG, ARABIC, "a|b`c\n# d", "🙂" * 400]
    many = [f"{names[place % 5]} {place}" for place in range(400)]
    example = [row(place, name, label=name, candidate=LONG, champion=HARM) for place, name in enumerate(names)]
    wrong = [{**row(place, name, label=name, predicted=HARM)} for place, name in enumerate(many)]
    checks = [check(name, name, name, ("pass", "fail", "warn")[n % 3], name) for n, name in enumerate(many)]
    slices = [
        part(name, ("declared", "discovered")[n % 2], 50 + n, 0.01 * (n % 7 - 3), ("pass", "warn", "fail")[n % 3])
        for n, name in enumerate(many)
    ]
    group = {"kind": "minimum", "cases": 3, "passed": 0, "least": 1.0, "severity": "fail", "failures": names}
    return full() | {
        "subject": HARM,
        "sentence": HARM + LONG,
        "champion_version": HARM,
        "checks": checks,
        "slices": slices,
        "baselines": [{"name": name, "value": 0.3, "gain": None, "low": None, "high": None} for name in names],
        "confusions": [{"label": name, "predicted": LONG, "rows": 3, "examples": wrong[:3]} for name in many],
        "changed": {"fixed": 5, "broken": 5, "examples": {"fixed": example, "broken": example * 9}},
        "golden": {"rows": 400, "right": 0, "wrong": wrong},
        "behaviour": [{**group, "name": name} for name in many],
        "noise_ceiling": {"noise_rate": math.nan, "value": math.inf},
        "difference": full()["difference"] | {"value": -0.4, "low": -0.6, "high": -0.2, "rows_to_settle": 10**12},
    }


def summary() -> dict[str, Any]:
    """Of a run that was held, as `mlops.summary` makes it."""
    spent = {
        "source": 1.0,
        "validate": 6.2,
        "prepare": 3.4,
        "fine_tune": 121.5,
        "evaluate": 8.8,
        "gate": 5.0,
        "verify": 17.2,
    }
    files = {"int8": model(0.8034, "int8", 23_500_000), "fp32": model(0.8051, "fp32", 90_700_000)}
    data = {"subject": "data", "outcome": "pass", "checks": [check("rows", 14640, ">= 20")]}
    return {
        "pipeline": "airline-sentiment",
        "outcome": "held",
        "reason": "int8: fail\n  fail: slices observed -0.0412, allowed >= -0.03",
        "sentence": full()["sentence"],
        "candidate": files["int8"],
        "champion_before": model(0.7911, "fp32", 90_700_000) | {"name": "airline-sentiment", "version": "3"},
        "release": None,
        "verdicts": [data, {"subject": "int8", "outcome": "fail", "checks": CHECKS}],
        "snapshot": {
            "rows": {"train": 11712, "validation": 1464, "test": 1464},
            "quarantined": 1,
            "deduplicated": 98,
            "sha256": "ab" * 32,
            "window": {"days": 90},
            "watermark": "2026-11-20T10:00:00",
            "parent_sha256": "cd" * 32,
            "new_rows": 812,
        },
        "tuning": None,
        "variants": files,
        "seconds": spent,
        "cost": {name: cost(value) for name, value in {**spent, "total": sum(spent.values())}.items()},
        "mlflow_run_id": "f" * 32,
        "retrain_id": "20261125T221559Z-fa2d1f",
        "links": {},
    }


def model(value: float, variant: str, size: int) -> dict[str, Any]:
    metrics = {"macro_f1": value, "accuracy": value + 0.03, "f1/negative": 0.9, "f1/neutral": 0.68, "f1/positive": 0.81}
    told = {name: around(each, 0.02, 1464) for name, each in metrics.items()}
    return {"metrics": told, "variant": variant, "size_bytes": size, "latency_ms": {"p50": 2.5, "p95": 3.75}}


def cost(seconds: float) -> dict[str, Any]:
    told = {"seconds": seconds, "cpu_seconds": seconds * 1.8, "gpu_seconds": 0.0, "peak_mb": 1830.0, "energy_kwh": None}
    return told | {"co2_kg": None, "money": seconds * 0.0011, "currency": "EUR"}
