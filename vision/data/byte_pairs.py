"""Byte-pair encoding: words as bytes, of which pairs are joined in the order in which they were learned."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

Merge = tuple[str, str]
END_OF_WORD = "</w>"
_LEAST_COUNT = 2  # a pair seen once says something of one word only


def byte_letters() -> dict[int, str]:
    """Returns a printable letter for each byte, in the order of CLIP's vocabulary (that of GPT-2).

    Printable characters of Latin-1 stand for themselves and come first; the others are 256 and up.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


LETTERS = byte_letters()
# Each byte inside a word, then each at the end of one.
ALPHABET = (*LETTERS.values(), *(letter + END_OF_WORD for letter in LETTERS.values()))


def symbols(word: str) -> tuple[str, ...]:
    """Returns the bytes of a word as symbols, the last one marked as the end."""
    *first, last = (LETTERS[byte] for byte in word.encode(errors="replace"))
    return (*first, last + END_OF_WORD)


def merged(word: tuple[str, ...], ranks: Mapping[Merge, int]) -> tuple[str, ...]:
    """Returns the symbols with pairs joined, the one learned first first, until no known pair is left.

    Args:
      word: from :func:`symbols`.
      ranks: of each pair, when it was learned (Sennrich et al. 2016, arXiv:1508.07909, section 3.2).
    """
    while len(word) > 1:
        pair = min(pairwise(word), key=lambda each: ranks.get(each, len(ranks)))
        if pair not in ranks:
            break
        word = _joined(word, pair)
    return word


def learn(words: Mapping[str, int], count: int) -> list[Merge]:
    """Returns at most ``count`` pairs, each the most frequent one when those before it are joined.

    Of equally frequent pairs the first in the order of their symbols' ages is taken, so that the answer depends on the
    counts alone. It ends early when no pair comes twice.

    Args:
      words: how often each comes.
      count: of pairs.
    """
    ages = {symbol: age for age, symbol in enumerate(ALPHABET)}
    spelled = [symbols(word) for word in words]
    times = list(words.values())
    totals: Counter[Merge] = Counter()
    places: defaultdict[Merge, set[int]] = defaultdict(set)
    for number, word in enumerate(spelled):
        for pair in pairwise(word):
            totals[pair] += times[number]
            places[pair].add(number)

    def entry(pair: Merge) -> tuple[int, int, int, Merge]:
        return -totals[pair], ages[pair[0]], ages[pair[1]], pair

    heap = [entry(pair) for pair in totals]
    heapq.heapify(heap)
    found: list[Merge] = []
    while heap and len(found) < count:
        negative, _, _, pair = heapq.heappop(heap)
        if -negative != totals[pair]:  # it has lost since; an entry of its present count is in the heap too
            continue
        if -negative < _LEAST_COUNT:
            break
        if "".join(pair) in ages:  # spelled like an older symbol, of which there can be one only
            continue
        found.append(pair)
        ages["".join(pair)] = len(ages)
        changed: set[Merge] = set()
        for number in places.pop(pair):
            old, new = spelled[number], _joined(spelled[number], pair)
            spelled[number] = new
            for each in pairwise(old):
                totals[each] -= times[number]
                changed.add(each)
            for each in pairwise(new):
                totals[each] += times[number]
                places[each].add(number)
                changed.add(each)
        for each in changed:
            if totals[each] > 0:
                heapq.heappush(heap, entry(each))
    return found


def _joined(word: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    """Returns the symbols with every occurrence of a pair joined, from the left."""
    joined: list[str] = []
    position = 0
    while position < len(word):
        if word[position : position + 2] == pair:
            joined.append(word[position] + word[position + 1])
            position += 2
        else:
            joined.append(word[position])
            position += 1
    return tuple(joined)
