"""Text for the sentiment model: opinions about things, NEGATIVE or POSITIVE.

The label cannot be derived from single words: praise and criticism are negated, and with
"although" or "but" the main clause decides.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import names
from .split import Example
from .wordlist import phrases, words

NEGATIVE, POSITIVE = "NEGATIVE", "POSITIVE"

THINGS = words("""
movie film book novel story plot ending acting actor actress director script soundtrack music song
album concert show series episode game restaurant food meal dinner lunch breakfast pizza pasta soup
steak burger dessert cake coffee wine beer menu waiter waitress chef service staff hotel room bed
bathroom view pool beach location flight airline train trip tour holiday museum app website phone
laptop camera battery screen keyboard speaker headphone printer software update product device
vacuum bike car jacket dress shirt shoe bag watch toy gift price quality design delivery packaging
support manual seller store shop company course teacher lesson lecture class team weather day
evening night experience idea performance conversation library model container endpoint tool
""")

PRAISE = words("""
good great excellent wonderful fantastic amazing awesome brilliant superb outstanding perfect lovely
beautiful delightful charming impressive enjoyable pleasant fun funny hilarious clever smart
touching moving gripping fascinating interesting inspiring memorable stunning gorgeous delicious
tasty fresh comfortable cozy clean friendly helpful polite reliable fast quick smooth sturdy elegant
incredible marvelous magnificent terrific remarkable refreshing satisfying splendid fabulous
exceptional flawless entertaining thrilling superior nice solid useful
""")

BLAME = words("""
bad terrible awful horrible dreadful boring dull tedious disappointing poor lousy mediocre weak
stupid silly ridiculous pointless annoying frustrating irritating disgusting bland stale cold dirty
filthy noisy rude unfriendly unhelpful slow unreliable broken useless worthless cheap flimsy ugly
overpriced confusing predictable messy lame depressing painful unpleasant uncomfortable atrocious
abysmal pathetic miserable laughable forgettable unwatchable inedible shoddy defective faulty
hideous nasty sloppy lifeless clumsy horrendous appalling unbearable
""")

FEELINGS = {
    POSITIVE: words("happy glad pleased satisfied delighted thrilled impressed excited amazed"),
    NEGATIVE: words("unhappy sad disappointed frustrated annoyed angry upset disgusted bored"),
}
LIKES = words("love loved like liked enjoy enjoyed adore adored recommend admire")
DISLIKES = words("hate hated dislike disliked regret regretted despise despised detest loathe")
INTENSIFIERS = [
    *words("very really so truly absolutely extremely quite incredibly pretty totally"),
    *[""] * 8,
]
DETERMINERS = words("the the the this this that my our their his her")
# Words without an opinion.
NEUTRAL = ["", "", "", "", *words("new old first second last whole little big latest main")]
GERUNDS = words("using seeing watching reading trying having visiting")
PURPOSES = ["to see", "to try", "to show you", "to use", "to visit", "to hear about", "to read"]


VERDICTS = {
    POSITIVE: """
i will definitely come back|i can not wait to return|worth every penny|a must see
i would buy it again|highly recommended|five stars|it made me smile|it exceeded my expectations
i could not stop laughing|it works like a charm|everything went well|best purchase of the year
you will not regret it|i can not recommend it enough|we had a great time|thumbs up
it was worth the wait|money well spent|i would watch it again|it made my day|what a treat
i am a big fan|no complaints at all|nothing to complain about|it never let me down|two thumbs up
i had a lot of fun|i would go there again|i want to see it again
i enjoyed every minute|it could not be better|i was smiling the whole time|a real pleasure
""",
    NEGATIVE: """
i will never come back|a complete waste of time|a waste of money|i want my money back
not worth the price|do not buy it|avoid it at all costs|one star|it made me angry
i fell asleep|it stopped working after a week|it broke after two days|everything went wrong
you will regret it|i can not recommend it|we left early|thumbs down|i asked for a refund
it was not worth the wait|save your money|i would not watch it again|it ruined my day
i expected much more|i would not go there again|it was too long|never go there
nothing worked|i was bored the whole time|it let me down|stay away
i would not wish it on anyone|it could not be worse|it could have been better|never again
""",
}
_VERDICTS = {label: phrases(text) for label, text in VERDICTS.items()}


@dataclass(frozen=True, slots=True)
class Clause:
    text: str
    label: str
    combination: str


def opposite(label: str) -> str:
    return NEGATIVE if label == POSITIVE else POSITIVE


def review(rng: random.Random) -> Example[str]:
    """One to three clauses whose overall opinion is the label."""
    label = rng.choice([NEGATIVE, POSITIVE])
    form = rng.choice([_single, _single, _pair, _contrast, _concession, _with_verdict])
    clauses, text = form(rng, label)
    return Example(_styled(rng, text), label, tuple(c.combination for c in clauses))


def _single(rng: random.Random, label: str) -> tuple[list[Clause], str]:
    clause = _clause(rng, label)
    return [clause], clause.text


def _pair(rng: random.Random, label: str) -> tuple[list[Clause], str]:
    first, second = _clause(rng, label), _clause(rng, label)
    return [first, second], f"{first.text}{rng.choice([' and ', ', and ', '. '])}{second.text}"


def _contrast(rng: random.Random, label: str) -> tuple[list[Clause], str]:
    first, second = _clause(rng, opposite(label)), _clause(rng, label)
    link = rng.choice([", but ", " but ", ". however, "])
    return [first, second], f"{first.text}{link}{second.text}"


def _concession(rng: random.Random, label: str) -> tuple[list[Clause], str]:
    aside, main = _clause(rng, opposite(label)), _clause(rng, label)
    although = rng.choice(["although", "even though", "though"])
    if rng.random() < 0.5:
        return [aside, main], f"{although} {aside.text}, {main.text}"
    return [aside, main], f"{main.text}, {although} {aside.text}"


def _with_verdict(rng: random.Random, label: str) -> tuple[list[Clause], str]:
    clause, verdict = _clause(rng, label), rng.choice(_VERDICTS[label])
    parts = [clause.text, verdict]
    rng.shuffle(parts)
    return [clause], ". ".join(parts)


def _clause(rng: random.Random, label: str) -> Clause:
    make = rng.choice(
        [
            _described,
            _described,
            _negated,
            _felt,
            _liked,
            _superlative,
            _exclaimed,
            _personal,
            _aside,
        ]
    )
    return make(rng, label)


def _described(rng: random.Random, label: str) -> Clause:
    thing, word = _thing(rng), _adjective(rng, label)
    verb = rng.choice(["is", "was", "was", "looks", "seemed", "turned out to be", "has been"])
    text = f"{rng.choice(DETERMINERS)} {thing} {verb} {_intensified(rng, word)}"
    return Clause(text, label, f"{thing} {word}")


def _negated(rng: random.Random, label: str) -> Clause:
    thing, word = _thing(rng), _adjective(rng, opposite(label))
    negation = rng.choice(
        ["is not", "was not", "isn't", "wasn't", "is never", "was never", "is anything but",
         "was far from", "does not seem", "did not look", "was hardly", "is by no means"]
    )  # fmt: skip
    degree = rng.choice(["", "", "", "at all", "in any way"]) if "not" in negation else ""
    text = f"{rng.choice(DETERMINERS)} {thing} {negation} {word} {degree}".strip()
    return Clause(text, label, f"{thing} not {word}")


def _felt(rng: random.Random, label: str) -> Clause:
    thing, denied = _thing(rng), rng.random() < 0.35
    feeling = rng.choice(FEELINGS[opposite(label) if denied else label])
    who, be = rng.choice([("i", "am"), ("i", "was"), ("we", "were"), ("my wife", "was")])
    negation = " not" if denied else ""
    degree = rng.choice(["", "", " very", " so"])
    about = rng.choice(["with", "with", "about", *PURPOSES])
    text = f"{who} {be}{negation}{degree} {feeling} {about} {rng.choice(DETERMINERS)} {thing}"
    return Clause(text, label, f"{feeling} {denied} {thing}")


def _liked(rng: random.Random, label: str) -> Clause:
    thing, denied = _thing(rng), rng.random() < 0.35
    verb = rng.choice(LIKES if (label == POSITIVE) != denied else DISLIKES)
    negation = (
        rng.choice(["did not ", "do not ", "don't ", "didn't ", "can not "]) if denied else ""
    )
    base = verb.removesuffix("d") if denied and verb.endswith("ed") else verb
    if base == "enjoye" or base == "regrette":
        base = {"enjoye": "enjoy", "regrette": "regret"}[base]
    adverb = "" if denied else rng.choice(["", "", "really ", "absolutely "])
    using = rng.choice(["", "", f"{rng.choice(GERUNDS)} "])
    who = rng.choice(["i", "i", "we", "we" if denied or base.endswith("d") else "you will"])
    text = f"{who} {negation}{adverb}{base} {using}{rng.choice(DETERMINERS)} {thing}"
    return Clause(text, label, f"{base} {denied} {thing}")


def _superlative(rng: random.Random, label: str) -> Clause:
    thing = rng.choice(THINGS)
    best = rng.choice(
        ["best", "finest", "greatest", "nicest"] if label == POSITIVE
        else ["worst", "most boring", "most disappointing", "ugliest", "most terrible"]
    )  # fmt: skip
    frame = rng.choice(
        ["this is the {} {} i have ever seen", "the {} {} ever", "one of the {} {}s of all time",
         "it was the {} {} in a long time", "by far the {} {} we have tried",
         "easily the {} {} of the year", "probably the {} {} in town"]
    )  # fmt: skip
    return Clause(frame.format(best, thing), label, f"{best} {thing}")


def _exclaimed(rng: random.Random, label: str) -> Clause:
    thing, word = rng.choice(THINGS), _adjective(rng, label)
    article = "an" if word[0] in "aeiou" else "a"
    frame = rng.choice(
        ["what {a} {w} {t}", "such {a} {w} {t}", "{a} {w} {t}", "{w} {t}", "it is {a} {w} {t}",
         "i had {a} {w} {t}", "a truly {w} {t}", "{t} was {w}", "i think the {t} is {w}",
         "how {w}", "so {w}", "i found the {t} {w}", "this is {w}",
         "this is {a} {w} {t}", "i thought it was {a} {w} {t}"]
    )  # fmt: skip
    return Clause(frame.format(a=article, w=word, t=thing), label, f"{word} {thing}")


def _personal(rng: random.Random, label: str) -> Clause:
    whom = rng.choice(["you", "him", "her", "them", "it", "this", "everything", "this place"])
    denied = rng.random() < 0.3
    verb = rng.choice(["love", "like", "adore"] if (label == POSITIVE) != denied else
                      ["hate", "dislike", "despise"])  # fmt: skip
    text = f"i {rng.choice(['do not ', 'don' + chr(39) + 't ']) if denied else ''}{verb} {whom}"
    return Clause(text, label, f"{denied} {verb} {whom} personal")


def _aside(rng: random.Random, label: str) -> Clause:
    """A remark that names no thing: not bad, pretty good, not good at all."""
    if rng.random() < 0.5:
        word = _adjective(rng, label)
        return Clause(f"{rng.choice(['', 'very ', 'simply ', 'just '])}{word}", label, f"{word} .")
    word = _adjective(rng, opposite(label))
    text = rng.choice(["not {}", "not {} at all", "not so {}", "it is not {}", "not that {}"])
    return Clause(text.format(word), label, f"not {word} .")


def _thing(rng: random.Random) -> str:
    """Usually a known thing, sometimes one with a made-up name."""
    thing = names.invented(rng).lower() if rng.random() < 0.08 else rng.choice(THINGS)
    return f"{rng.choice(NEUTRAL)} {thing}".strip()


def _adjective(rng: random.Random, label: str) -> str:
    return rng.choice(PRAISE if label == POSITIVE else BLAME)


def _intensified(rng: random.Random, word: str) -> str:
    return f"{rng.choice(INTENSIFIERS)} {word}".strip()


def _styled(rng: random.Random, text: str) -> str:
    """The text with or without a capital letter and a final punctuation mark."""
    if rng.random() < 0.8:
        text = ". ".join(part[0].upper() + part[1:] for part in text.split(". "))
        text = text.replace(" i ", " I ")
    return text + rng.choice([".", ".", "!", ""])
