"""Tags of tokens: which scheme a corpus is written in, and all of them as strict IOB2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

SCHEMES = ("IOB2", "IOB1", "BIOES")
# Other spellings of the same: BILOU says L for the last and U for a single one, BMES says M for the inside.
_SPELLINGS = {"L": "E", "U": "S", "M": "I", "W": "S"}

Entity = tuple[str, int, int]  # type, start, end (exclusive)


def _parts(tag: str) -> tuple[str, str]:
    """(prefix, type) of a tag such as "B-PER"; O and what is no tag at all have no type."""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash else (tag, "")


def scheme(sequences: Iterable[Sequence[str]]) -> str:
    """IOB2, IOB1 or BIOES: what all sequences together are written in.

    Any E-, S-, L-, U- or M- says BIOES. Else an entity that starts with I- says IOB1, where B- only parts neighbours of
    one type. A corpus that is legal as IOB2 is IOB2: both readings then give the same entities, but for a B- after an
    entity of the same type, which both read as a new one.
    """
    legal = True
    for tags in sequences:
        before = ("O", "")
        for tag in tags:
            prefix, kind = _parts(tag)
            if kind and prefix in {"E", "S", *_SPELLINGS}:
                return "BIOES"
            if prefix == "I" and kind and (before[0] == "O" or before[1] != kind):
                legal = False
            before = (prefix, kind)
    return "IOB2" if legal else "IOB1"


def to_iob2(tags: Sequence[str], written: str) -> list[str]:
    """One sequence in strict IOB2. written: the scheme of the corpus, as `scheme` tells it.

    IOB1 and IOB2 are read as the CoNLL evaluation script reads them: an I- after O, or after another type, starts an
    entity. BIOES is read strictly: S-, or B- to E- without a gap; the tags of anything less come out as E-, which IOB2
    does not have. Tags that are none stay as they are. `illegal` finds both.
    Raises ValueError for a scheme that is none of SCHEMES.
    """
    if written not in SCHEMES:
        raise ValueError(f"found the scheme {written!r}; allowed: {', '.join(SCHEMES)}")
    return _from_bioes(tags) if written == "BIOES" else _from_iob(tags)


def _from_iob(tags: Sequence[str]) -> list[str]:
    found = []
    last = ""  # the type of the entity that may go on
    for tag in tags:
        prefix, kind = _parts(tag)
        if kind and prefix in ("B", "I"):
            found.append(f"{'I' if prefix == 'I' and kind == last else 'B'}-{kind}")
            last = kind
        else:
            found.append(tag)
            last = ""
    return found


def _from_bioes(tags: Sequence[str]) -> list[str]:
    found = []
    start, last = 0, ""  # of the entity that waits for its end
    for place, tag in enumerate(tags):
        prefix, kind = _parts(tag)
        prefix = _SPELLINGS.get(prefix, prefix)
        if not kind or prefix not in ("B", "I", "E", "S"):
            found.append(tag)
            last = ""
            continue
        goes_on = kind == last and prefix in ("I", "E")
        # Until its end comes an entity is a broken one: half an entity must not pass for a whole one.
        found.append(f"B-{kind}" if prefix == "S" else f"E-{kind}")
        if goes_on and prefix == "E":
            found[start:] = [f"B-{kind}", *[f"I-{kind}"] * (place - start)]
        if prefix == "B":
            start = place
        last = kind if prefix == "B" or (goes_on and prefix == "I") else ""
    return found


def illegal(tags: Sequence[str]) -> list[int]:
    """Positions that strict IOB2 does not allow: no tag at all, or an I- that goes on with nothing of its type."""
    found = []
    for place, (before, tag) in enumerate(pairwise(["O", *tags])):
        prefix, kind = _parts(tag)
        good = tag == "O" or (prefix in ("B", "I") and bool(kind))
        if not good or (prefix == "I" and before not in (f"B-{kind}", f"I-{kind}")):
            found.append(place)
    return found


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of strict IOB2 tags: a B- and the I- of its type after it; an I- by itself is none (seqeval, strict)."""
    found: list[Entity] = []
    start, kind = None, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, now = _parts(tag)
        if start is not None and not (prefix == "I" and now == kind):
            found.append((kind, start, place))
            start = None
        if prefix == "B" and now:
            start, kind = place, now
    return found
