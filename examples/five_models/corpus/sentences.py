"""Parts of sentences in both languages: subjects, objects and predicates.

A `Predicate` has the German finite verb, middle field and final verb separately, because their order
differs between statement, question and subordinate clause.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import german as lexicon
from . import names
from .german import (
    ADJECTIVES,
    INTRANSITIVE,
    NOUNS,
    TRANSITIVE,
    Noun,
    Verb,
    noun_phrase,
    strong_plural,
)
from .wordlist import pairs, words

ICH, DU, ER, WIR = range(4)  # columns of the German verb tables

PRONOUNS = [
    ("I", "ich", ICH), ("you", "du", DU), ("he", "er", ER), ("she", "sie", ER),
    ("we", "wir", WIR), ("they", "sie", WIR),
]  # fmt: skip
OBJECT_PRONOUNS = [
    ("me", "mich"), ("you", "dich"), ("him", "ihn"), ("her", "sie"), ("us", "uns"), ("them", "sie"),
]  # fmt: skip
BE = {"present": ("bin", "bist", "ist", "sind"), "past": ("war", "warst", "war", "waren")}
# The English auxiliary, what follows it, and its German forms.
MODALS = [
    ("can", "", ("kann", "kannst", "kann", "können")),
    ("must", "", ("muss", "musst", "muss", "müssen")),
    ("should", "", ("sollte", "solltest", "sollte", "sollten")),
    ("would", "like to ", ("möchte", "möchtest", "möchte", "möchten")),
    ("will", "", ("werde", "wirst", "wird", "werden")),
    ("will", "", ("werde", "wirst", "wird", "werden")),
]
CONTRACTIONS = {"can": "can't", "will": "won't", "am": "am not"}
# Verbs that English does not use in the progressive.
STATES = {"sehen", "brauchen", "lieben", "kennen", "mögen", "hören", "hassen", "haben"}


PLACES = pairs("""
in the garden=im Garten|in the kitchen=in der Küche|at the station=am Bahnhof|at home=zu Hause
in the city=in der Stadt|at school=in der Schule|in the park=im Park|on the table=auf dem Tisch
in the forest=im Wald|at the beach=am Strand|in the house=im Haus|in the office=im Büro
in the hotel=im Hotel|in the restaurant=im Restaurant|in the car=im Auto|in the museum=im Museum
on the street=auf der Straße|in the hospital=im Krankenhaus|in the library=in der Bibliothek
at the airport=am Flughafen|in the village=im Dorf|on the bridge=auf der Brücke
""")
TIMES = pairs("""
today=heute|every day=jeden Tag|every morning=jeden Morgen|often=oft|on Monday=am Montag|on Friday=am Freitag
on Sunday=am Sonntag|in the evening=am Abend|in the morning=am Morgen|in summer=im Sommer
in winter=im Winter
""")
EARLIER = pairs("yesterday=gestern|yesterday=gestern|last week=letzte Woche")
LATER = pairs("tomorrow=morgen|now=jetzt|tonight=heute Abend")
DEGREES = pairs("=|=|=|very =sehr |too =zu |really =wirklich |not =nicht |never =nie |so =so ")
NUMBERS = pairs(
    "two=zwei|three=drei|four=vier|five=fünf|six=sechs|seven=sieben|eight=acht|ten=zehn|many=viele"
)
DETERMINERS = words("the the the the a a my your his her our their this")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A subject or an object. `lemma`: its part of the word combination."""

    english: str
    german: str
    person: int
    lemma: str
    indefinite: bool = False
    is_pronoun: bool = False


@dataclass(frozen=True, slots=True)
class Predicate:
    statement: str
    auxiliary: str
    rest: str
    finite: str
    middle: str
    final: str
    lemma: str


def noun_object(
    rng: random.Random, noun: Noun, case: str, determiner: str = "", denied: bool = False
) -> Phrase:
    """`denied` changes the German ein to kein; the English text does not change."""
    plural = noun.english_plural != "-" and rng.random() < 0.25
    english_adjective, adjective = rng.choice(ADJECTIVES) if rng.random() < 0.35 else ("", "")
    determiner = determiner or rng.choice(DETERMINERS)
    if plural and not denied and (determiner == "a" or rng.random() < 0.4):
        return _counted(rng, noun, english_adjective, adjective)
    plural = plural and determiner != "a"
    indefinite = determiner == "a"
    german = noun_phrase(
        noun, "no" if denied and indefinite else determiner, adjective, case, plural
    )
    english = _english_phrase(noun, determiner, english_adjective, plural)
    return Phrase(english, german, WIR if plural else ER, noun.english, indefinite)


def _english_phrase(noun: Noun, determiner: str, adjective: str, plural: bool) -> str:
    rest = f"{adjective} {noun.english_plural if plural else noun.english}".strip()
    if determiner == "a" and rest[0] in "aeiou":
        determiner = "an"
    return f"{'these' if determiner == 'this' and plural else determiner} {rest}"


def _counted(rng: random.Random, noun: Noun, english_adjective: str, adjective: str) -> Phrase:
    """A plural with or without a number: two dogs, dogs."""
    number, zahl = rng.choice(NUMBERS) if rng.random() < 0.6 else ("", "")
    german = " ".join(f"{zahl} {strong_plural(adjective)} {noun.german_plural}".split())
    english = " ".join(f"{number} {english_adjective} {noun.english_plural}".split())
    return Phrase(english, german, WIR, noun.english)


def subject(rng: random.Random, kinds: tuple[str, ...] = ("person", "animal")) -> Phrase:
    pick = rng.random()
    if "person" in kinds and pick < 0.35:
        english, german, person = rng.choice(PRONOUNS)
        return Phrase(english, german, person, english, is_pronoun=True)
    if "person" in kinds and pick < 0.5:
        name = names.first_name(rng, invented_share=0.5)
        return Phrase(name, name, ER, name)
    return noun_object(rng, rng.choice(NOUNS[rng.choice(kinds)]), "nom")


def _object(rng: random.Random, verb: Verb, denied: bool) -> Phrase:
    if "person" in verb.objects and rng.random() < 0.25:
        english, german = rng.choice(OBJECT_PRONOUNS)
        return Phrase(english, german, ER, english, is_pronoun=True)
    if "person" in verb.objects and rng.random() < 0.15:
        name = names.first_name(rng, invented_share=0.5)
        return Phrase(name, name, ER, name)
    return noun_object(rng, rng.choice(NOUNS[rng.choice(verb.objects)]), "acc", denied=denied)


def predicate(rng: random.Random, subject: Phrase, with_time: bool = True) -> Predicate:
    return rng.choice([_action, _action, _action, _activity, description])(rng, subject, with_time)


def _action(rng: random.Random, subject: Phrase, with_time: bool) -> Predicate:
    """A verb with an object: sees the dog."""
    verb, denied = rng.choice(TRANSITIVE), rng.random() < 0.25
    target = _object(rng, verb, denied)
    tense = rng.choice(["present", "present", "past", "modal"])
    when, wann = _time(rng, tense) if with_time and rng.random() < 0.25 else ("", "")
    if denied and not target.indefinite:
        middle = f"{target.german} {wann} nicht"
    elif target.is_pronoun:
        middle = f"{target.german} {wann}"
    else:
        middle = f"{wann} {target.german}"
    lemma = f"{subject.lemma} {verb.infinitive} {target.lemma}"
    return _inflected(rng, subject, verb, tense, denied, f"{target.english} {when}", middle, lemma)


def _activity(rng: random.Random, subject: Phrase, with_time: bool) -> Predicate:
    """A verb with a place: sleeps in the garden."""
    verb, denied = rng.choice(INTRANSITIVE), rng.random() < 0.25
    where, wo = _place(rng)
    tense = rng.choice(["present", "present", "past", "modal"])
    when, wann = _time(rng, tense) if with_time and rng.random() < 0.25 else ("", "")
    middle = f"{wann} {'nicht ' if denied else ''}{wo}"
    lemma = f"{subject.lemma} {verb.infinitive} {where}"
    return _inflected(rng, subject, verb, tense, denied, f"{where} {when}", middle, lemma)


def _inflected(
    rng: random.Random, subject: Phrase, verb: Verb, tense: str, denied: bool,
    complement: str, middle: str, lemma: str,
) -> Predicate:  # fmt: skip
    base, third, past = verb.english
    singular = subject.person == ER
    forms: tuple[str, ...]
    if tense == "modal":
        # "must not" is "darf nicht" in German, so "must" is never denied.
        modals = [m for m in MODALS if not (denied and m[0] == "must")]
        auxiliary, link, forms = rng.choice(modals)
        affirmed, final = f"{auxiliary} {link}{base}", verb.infinitive
    elif tense == "present" and rng.random() < 0.3 and verb.infinitive not in STATES:
        # German has no progressive: "is sleeping" is "schläft".
        auxiliary, link = _am(subject), ""
        base = affirmed = _progressive(base)
        affirmed, final, forms = f"{auxiliary} {base}", "", verb.present
    else:
        auxiliary, link = ("did" if tense == "past" else "does" if singular else "do"), ""
        affirmed, final = (past if tense == "past" else third if singular else base), ""
        forms = verb.past if tense == "past" else verb.present
    statement = f"{_negated(rng, auxiliary)} {link}{base}" if denied else affirmed
    rest = f"{'not ' if denied else ''}{link}{base} {complement}"
    return Predicate(
        f"{statement} {complement}", auxiliary, rest, forms[subject.person], middle, final, lemma
    )


def _am(subject: Phrase) -> str:
    return "am" if subject.lemma == "I" else "is" if subject.person == ER else "are"


def _progressive(base: str) -> str:
    verb, _, particle = base.partition(" ")
    if verb in {"sit", "swim", "forget"}:
        verb += verb[-1]
    elif verb.endswith("e") and verb != "see":
        verb = verb[:-1]
    return f"{verb}ing {particle}".strip()


def _negated(rng: random.Random, auxiliary: str) -> str:
    if rng.random() < 0.5:
        return "cannot" if auxiliary == "can" else f"{auxiliary} not"
    return CONTRACTIONS.get(auxiliary, f"{auxiliary}n't")


def description(rng: random.Random, subject: Phrase, with_time: bool = False) -> Predicate:
    """A form of be with an adjective or a place: is very old."""
    tense = rng.choice(["present", "past"])
    singular = subject.person == ER or subject.lemma == "I"
    be = _am(subject) if tense == "present" else "was" if singular else "were"
    degree, grad = rng.choice(DEGREES)
    english, german = rng.choice(ADJECTIVES)
    where, wo = _place(rng)
    if rng.random() < 0.25:
        degree, grad, english, german = "", "", where, wo
    return Predicate(
        f"{be} {degree}{english}", be, f"{degree}{english}", BE[tense][subject.person],
        f"{grad}{german}", "", f"{subject.lemma} {degree}{english}",
    )  # fmt: skip


def _place(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.15:
        city = names.city(rng, invented_share=0.4)
        return f"in {city}", f"in {lexicon.city(city)}"
    return rng.choice(PLACES)


def _time(rng: random.Random, tense: str) -> tuple[str, str]:
    return rng.choice([*TIMES, *(EARLIER if tense == "past" else LATER)])
