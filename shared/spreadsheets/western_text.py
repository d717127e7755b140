"""Decides whether bytes that are not UTF-8 are Western European text in Windows-1252.

Any bytes can be read as some text, so only the words tell. In another encoding, letters stand
beside letters that they never have in a Western word. ADR 0037 has the figures and the reasons why
charset-normalizer alone is not enough.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import charset_normalizer

from shared.spreadsheets.letter_pairs import EDGE, FREE_LETTERS, NEIGHBORS

CANDIDATES = {
    "cp1252": "windows-1252",
    "cp1251": "windows-1251",
    "cp1250": "windows-1250",
    "cp1253": "windows-1253",
    "cp1254": "windows-1254",
    "gb18030": "gb18030",
    "cp932": "shift_jis",
    "big5": "big5",
    "cp949": "euc-kr",
    "cp1257": "windows-1257",
    "mac_roman": "macintosh",
    "cp1255": "windows-1255",
    "cp1256": "windows-1256",
    "cp850": "ibm850",
    "koi8_r": "koi8-r",
    "cp866": "ibm866",
    "cp874": "windows-874",
    "euc_jp": "euc-jp",
    "iso8859_2": "iso-8859-2",
    "cp1258": "windows-1258",
}
"""The encodings that charset-normalizer considers, and the names by which clients declare them.

Frequent ones come first: of two that are as probable, the first one is the guess.
"""
LATIN = frozenset(
    {"cp1252", "cp1250", "cp1254", "cp1257", "mac_roman", "cp850", "iso8859_2", "cp1258"}
)
"""Candidates that write Latin letters."""
CJK = frozenset({"gb18030", "cp932", "big5", "cp949", "euc_jp"})
"""Candidates in which ASCII letters may be the second byte of a character."""

MAX_JUDGED_WORDS = 2000
"""Words that are judged from the beginning of the text, and again from the middle of the rest."""
MAX_GUESSED_WORDS = 100
"""Words in charset-normalizer's sample. It takes 4 to 15 ms for 100 words and 24 ms for 300; the
first call in a process takes 90 ms more.
"""
MIN_GUESSED_WORDS = 20
"""Below this number charset-normalizer's opinion on Western text is too often wrong."""
MAX_WORD_LENGTH = 40
MIN_LATIN_ASCII = 0.2
"""Share of ASCII letters in words with other letters, below which the text is not Latin."""
MAX_IMPLAUSIBLE = 0.02
"""Share of implausible words in Western text, among its words with characters beyond ASCII."""
MAX_IMPLAUSIBLE_DECISIVE = 0.15
"""The same share among the words that other encodings of Latin letters read differently. A text
exceeds both if it is not Western.
"""

_LETTER = "A-Za-zÀ-ÖØ-öø-ÿŒœŠšŽžŸ"
_ASCII_LETTERS = [bytes([byte]) for byte in range(0x40, 0x80)]
_NOT_ASCII = re.compile(rb"[\x80-\x9f\xa1-\xff]")
# Runs of bytes from 0x40 on. They hold whole words, and whole characters of two bytes as well
_RUN_START = re.compile(rb"[\x40-\xff]*\Z")
_RUN_END = re.compile(rb"[\x40-\xff]*")
_TOKENS = re.compile(r"[^\x00-@\[-`{-\x7f\xa0]+")
_LETTERS = re.compile(rf"[{_LETTER}]+")
_CATALAN_DOT = re.compile("(?<=[lL])·(?=[lL])")
_CAPITAL_INSIDE = re.compile("[a-zß-ÿœšž]{2}[À-ÖØ-ÞŒŠŽŸ]")
_MISPLACED_SIGN = re.compile(
    # Signs that never follow a letter, and signs that never precede one
    f"[{_LETTER}][¡¿„‚£¥¢¤¦§¨©¬¯±¸¹µ¶½¼¾÷ƒ†‡ˆ˜‰€]"
    f"|[£¥¢¤¦¨¬¯±¸¹²³½¼¾÷ƒ†‡ˆ˜‰™®][{_LETTER}]|[ªº°](?![CF]\\b)[{_LETTER}]|µ[^a-zA-Z]"
    f"|[{_LETTER}][“”«»‹›][{_LETTER}]"
    # Two signs that don't belong together
    "|[¢¤¥¦¨©¬®¯±²³¶¸¹º½¼¾ªµƒˆ˜‰]{2}"
    # UTF-8 that was read as Windows-1252 and saved again
    f"|[ÂÃ][^{_LETTER}]"
)
_SINGLE_LETTERS = frozenset("àáäåæèéíòóôöøÀÁÄÅÆÈÉÍÒÓÔÖØ")
_PAIRS = frozenset(
    pair
    for letter, (before, after) in NEIGHBORS.items()
    for pair in ([other + letter for other in before] + [letter + other for other in after])
) | frozenset(
    pair
    for letter in FREE_LETTERS
    for other in f"{EDGE}abcdefghijklmnopqrstuvwxyz"
    for pair in (letter + other, other + letter)
)


def _decode_byte(byte: int, encoding: str) -> str:
    return bytes([byte]).decode(encoding, errors="replace")


_DECISIVE = frozenset(
    _decode_byte(byte, "cp1252")
    for byte in range(0x80, 0x100)
    if any(
        _decode_byte(byte, "cp1252") != _decode_byte(byte, rival)
        for rival in ("cp1250", "cp1254", "cp1257")
    )
)
"""Characters that other encodings of Latin letters read differently."""


class Judgment(NamedTuple):
    """The result for bytes that are not UTF-8."""

    is_western: bool
    guess: str | None
    """The most probable encoding if the text is not Western, or None."""


def judge(data: bytes) -> Judgment:
    """Decides whether the text is Western. Otherwise guesses its encoding."""
    runs = Counter(_find_runs(data))
    ranking = _rank_encodings(list(runs))
    is_western = _are_western(runs) and not (
        len(runs) >= MIN_GUESSED_WORDS and ranking and LATIN.isdisjoint(ranking)
    )
    return Judgment(is_western, None if is_western else _choose_guess(b" ".join(runs), ranking))


def _choose_guess(letters: bytes, ranking: list[str]) -> str | None:
    """Returns the first encoding that gives other text than Windows-1252.

    Words with many ASCII letters are hardly Greek, and words without any are hardly Polish.
    """
    western = letters.decode("cp1252", errors="replace")
    names = [name for name in ranking if letters.decode(name, errors="replace") != western]
    is_latin = sum(map(letters.count, _ASCII_LETTERS)) >= MIN_LATIN_ASCII * len(letters)
    likely = [name for name in names if name in CJK or (name in LATIN) is is_latin]
    return CANDIDATES[(likely or names)[0]] if names else None


def _find_runs(data: bytes) -> Iterator[bytes]:
    """Yields runs of letters with bytes beyond ASCII, at most twice MAX_JUDGED_WORDS."""
    position = 0
    for run, position in islice(_scan(data, 0), MAX_JUDGED_WORDS):  # noqa: B007
        yield run
    for run, _ in islice(_scan(data, (position + len(data)) // 2), MAX_JUDGED_WORDS):
        yield run


def _scan(data: bytes, position: int) -> Iterator[tuple[bytes, int]]:
    while found := _NOT_ASCII.search(data, position):
        before = data[max(found.start() - MAX_WORD_LENGTH, position) : found.start()]
        start = _RUN_START.search(before)
        stop = _RUN_END.match(data, found.start(), found.start() + MAX_WORD_LENGTH)
        position = stop.end() if stop else found.end()
        yield (start.group() if start else b"") + data[found.start() : position], position


def _are_western(runs: Mapping[bytes, int]) -> bool:
    """Returns whether few words are implausible. `runs` counts each run of letters.

    A single odd word, such as a foreign name, does not decide about a long file.
    """
    total = implausible = decisive = 0
    for run, count in runs.items():
        for word in _TOKENS.findall(run.decode("cp1252", errors="replace")):
            if word.isascii():
                continue
            total += count
            if not _is_plausible(word):
                implausible += count
                decisive += count
            elif not _DECISIVE.isdisjoint(word):
                decisive += count
    return implausible <= max(MAX_IMPLAUSIBLE_DECISIVE * decisive, MAX_IMPLAUSIBLE * total)


def _is_plausible(word: str) -> bool:
    if _LETTERS.fullmatch(word):
        return _has_western_letters(word)
    word = _CATALAN_DOT.sub("", word)
    if "\ufffd" in word or _MISPLACED_SIGN.search(word):
        return False
    return all(_has_western_letters(part) for part in _LETTERS.findall(word))


def _has_western_letters(word: str) -> bool:
    if word.isascii():
        return True
    if len(word) == 1:
        return word in _SINGLE_LETTERS
    if _CAPITAL_INSIDE.search(word):
        return False
    bounded = f"{EDGE}{word.lower()}{EDGE}"
    return all(
        bounded[index - 1 : index + 1] in _PAIRS and bounded[index : index + 2] in _PAIRS
        for index, letter in enumerate(bounded)
        if not letter.isascii()
    )


def _rank_encodings(runs: list[bytes]) -> list[str]:
    """Returns the candidates that charset-normalizer finds probable, best first."""
    step = max(len(runs) // MAX_GUESSED_WORDS, 1)
    sample = b" ".join(runs[::step][:MAX_GUESSED_WORDS])
    matches = charset_normalizer.from_bytes(sample, cp_isolation=list(CANDIDATES))
    positions = {name: position for position, name in enumerate(CANDIDATES)}
    ordered = sorted(
        # An empty sample gives "utf_8"
        (match for match in matches if match.encoding in CANDIDATES),
        key=lambda match: (
            round(match.chaos, 1),
            -round(match.coherence, 1),
            positions[match.encoding],
        ),
    )
    return [
        name
        for match in ordered
        # Encodings that give the same text for the sample are one match
        for name in dict.fromkeys([match.encoding, *match.could_be_from_charset])
        if name in CANDIDATES
    ]
