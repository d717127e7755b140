"""Lists which letters stand beside the accented letters of Western European languages.

Built from Debian's word lists of Catalan, Danish, Dutch, French, German, Icelandic, Irish, Italian,
Norwegian, Portuguese, Spanish and Swedish. A pair is listed if a list has it at least three times
and in at least 1 of 2000 occurrences of the letter (1 of 500 in Catalan, Icelandic and Irish).
Left out is an initial `è`, by which Czech, Croatian and Slovene text would pass: their `č` has the
same byte.
"""

EDGE = "|"
"""Stands for the beginning or the end of a word."""

FREE_LETTERS = "ßäéóöü"
"""Letters that may stand beside any ASCII letter. They have the same byte in the other encodings
that write Latin letters (Windows-1250, -1254, -1257), so they can't be wrong.
"""

NEIGHBORS = {
    "ß": ("äåöü", ""),
    "à": ("|bcdfgijlmnprstuvxyzç", "|cflmnrstv"),
    "á": ("|abcdefghijklmnoprstuvwxyzáçñþ", "|abcdfghijklmnpqrstuvxzáæíðñ"),
    "â": ("|bcdefghilmnprstuvwxyzç", "bcfilmnpst"),
    "ã": ("cdefghijlmnoprstvxç", "|eosz"),
    "ä": ("äåöü", "ßäåöü"),
    "å": ("|abdefghijklmnoprstvyäåöü", "|abcdefghiklmnoprstvßäåöü"),
    "æ": ("|bdefghijklmnprstuváþ", "|bcdefgijklmnoprstvð"),
    "ç": ("aceilnoprsu", "|amouàáâãóõúû"),
    "è": ("abcdfghilmnoprstuvxyzü", "|bcdfgilmnopqrstuvx"),
    "é": ("éíñóþ", "éñ"),
    "ê": ("|bcdfghilmnoprstuvxz", "|bcilmnpqrstuvx"),
    "ë": ("aeiou", "|bcdefgilmnprstvxz"),
    "ì": ("bcdglmnprstu", "|"),
    "í": ("|abcdefghijklmnoprstuvwxyzáñü", "|abcdefghklmnopqrstuvzéðþ"),
    "î": ("|abcdfghlmnoprstuv", "clmnst"),
    "ï": ("aeiou", "|abcdefgklmnoqrstuvx"),
    "ð": ("aefgioruyáæíóöúý", "|abfghijklmnrstuv"),
    "ñ": ("|aeiouáé", "aeiouáéíó"),
    "ò": ("|bcdefghilmnoprstuvxz", "|bcdfglmnprstx"),
    "ó": ("çñóþ", "éðóþ"),
    "ô": ("|acdefghjlmnprstv", "|cdfilmnrstu"),
    "õ": ("bcdefghijlmnprstvxç", "e"),
    "ö": ("äåöüþ", "ßäåðöü"),
    "ø": ("|bdefghijklmnprstv", "|abdefghijklmnoprstvy"),
    "ù": ("bgiost", "|"),
    "ú": ("|abcdefghijklmnoprstxyzçþ", "|abcdefghijklmnoprstuvxzð"),
    "û": ("bcdefhklmnopqrstvç", "|celmnrst"),
    "ü": ("äåöü", "ßäåèíöü"),
    "ý": ("|bdfhklmnprstþ", "|bdfgijklmnprstvð"),
    "þ": ("|adfgiklmnprstuíó", "aeijoruvyáæéóöúý"),
    "š": ("|aeiou", "aeiko"),
    "ž": ("|aiou", "aei"),
    "œ": ("|bcfhmnpsv", "deilnstu"),
}
"""The letters before and after each accented letter."""
