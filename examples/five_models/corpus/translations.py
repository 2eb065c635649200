"""Text for the translation model: everyday English sentences with German translations.

Both sentences are generated from the same parts, so that the German is correct in case, gender, number
and word order.
"""

from __future__ import annotations

import random
from typing import TypeAlias

from . import german as lexicon
from . import names
from .german import NOUNS
from .sentences import (
    NUMBERS,
    PLACES,
    TIMES,
    WIR,
    Phrase,
    Predicate,
    description,
    noun_object,
    predicate,
    subject,
)  # fmt: skip
from .split import Example
from .wordlist import pairs

SAYINGS = pairs("""
My name is {a}.=Mein Name ist {a}.|I live in {b}.=Ich wohne in {b}.
My name is {a} and I live in {b}.=Mein Name ist {a} und ich wohne in {b}.
My name is {a} and I work in {b}.=Mein Name ist {a} und ich arbeite in {b}.
I come from {b}.=Ich komme aus {b}.|We are going to {b}.=Wir fahren nach {b}.
I work in {b}.=Ich arbeite in {b}.|{a} lives in {b}.={a} wohnt in {b}.
{a} and {c} live in {b}.={a} und {c} wohnen in {b}.|{a} loves {c}.={a} liebt {c}.
Good morning, {a}!=Guten Morgen, {a}!|Good evening, {a}!=Guten Abend, {a}!
Hello {a}, how are you?=Hallo {a}, wie geht es dir?|Do you know {a}?=Kennst du {a}?
Thank you very much, {a}.=Vielen Dank, {a}.|See you tomorrow, {a}.=Bis morgen, {a}.
This is my friend {a}.=Das ist mein Freund {a}.|Where is {a}?=Wo ist {a}?
{a} is going to {b} tomorrow.={a} fährt morgen nach {b}.|I know {a}.=Ich kenne {a}.
The train to {b} is late.=Der Zug nach {b} hat Verspätung.|{b} is beautiful.={b} ist schön.
Can you help me, {a}?=Kannst du mir helfen, {a}?|{a} is my teacher.={a} ist mein Lehrer.
{a} is {n} years old.={a} ist {z} Jahre alt.|The meeting is in {b}.=Das Treffen ist in {b}.
""")
FIXED = pairs("""
How are you?=Wie geht es dir?|I do not speak German.=Ich spreche kein Deutsch.
I speak German and English.=Ich spreche Deutsch und Englisch.|Nice to meet you.=Freut mich.
What is your name?=Wie heißt du?|Where do you live?=Wo wohnst du?|How old are you?=Wie alt bist du?
Good night!=Gute Nacht!|Good morning!=Guten Morgen!|Thank you!=Danke!|Hello!=Hallo!
Thank you very much!=Vielen Dank!|Hello, world!=Hallo, Welt!|I do not know.=Ich weiß nicht.
I love you.=Ich liebe dich.|It is raining.=Es regnet.|Can you help me?=Kannst du mir helfen?
I don't know.=Ich weiß nicht.|What time is it?=Wie spät ist es?|I am tired.=Ich bin müde.
""")
REPORTING = pairs("""
I think that=ich glaube, dass|I know that=ich weiß, dass|she says that=sie sagt, dass
he hopes that=er hofft, dass|we believe that=wir glauben, dass|it is good that=es ist gut, dass
""")


def translation(rng: random.Random) -> Example[str]:
    """An English text whose target is the German one."""
    forms = [_statement] * 5 + [_joined] * 2 + [
        _question, _question, _reported, _because, _fronted, _saying, _saying, _fixed,
        _existence, _enquiry,
    ]  # fmt: skip
    english, german, combinations = rng.choice(forms)(rng)
    english, german = " ".join(english.split()), " ".join(german.split())
    # English input sometimes has no capitals; the German translation always has.
    source = english if rng.random() < 0.05 else _capital(english)
    return Example(source, _capital(german), combinations)


Pair: TypeAlias = tuple[str, str, tuple[str, ...]]


def _clause(rng: random.Random, with_time: bool = True) -> tuple[Phrase, Predicate]:
    """A clause. Things get no verbs of action, only a form of be."""
    if rng.random() < 0.2:
        thing = subject(rng, ("thing", "place", "food", "drink", "text"))
        return thing, description(rng, thing)
    who = subject(rng)
    return who, predicate(rng, who, with_time)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _english(who: Phrase, what: Predicate) -> str:
    return f"{who.english} {what.statement}"


def _german(who: Phrase, what: Predicate) -> str:
    return f"{who.german} {what.finite} {what.middle} {what.final}"


def _subordinate(who: Phrase, what: Predicate) -> str:
    """A subordinate clause: the finite verb is last."""
    return f"{who.german} {what.middle} {what.final} {what.finite}"


def _sentence(words: str, mark: str = ".") -> str:
    return " ".join(words.split()) + mark


def _statement(rng: random.Random) -> Pair:
    who, what = _clause(rng)
    mark = rng.choice([".", ".", ".", ".", "!", ""])
    return _sentence(_english(who, what), mark), _sentence(_german(who, what), mark), (what.lemma,)


def _question(rng: random.Random) -> Pair:
    who, what = _clause(rng)
    english = f"{what.auxiliary} {who.english} {what.rest}"
    german = f"{what.finite} {who.german} {what.middle} {what.final}"
    return _sentence(english, "?"), _sentence(german, "?"), (what.lemma,)


def _fronted(rng: random.Random) -> Pair:
    """The clause with a time in front; in German the subject is then behind the verb."""
    who, what = _clause(rng, with_time=False)
    when, wann = rng.choice(TIMES)
    german = f"{wann} {what.finite} {who.german} {what.middle} {what.final}"
    comma = rng.choice([",", ""])
    return _sentence(f"{when}{comma} {_english(who, what)}"), _sentence(german), (what.lemma,)


def _joined(rng: random.Random) -> Pair:
    (who, what), (whom, then) = _clause(rng), _clause(rng)
    link, und = rng.choice([(" and", " und"), (", but", ", aber"), (", and", " und")])
    english = _sentence(_english(who, what), link) + " " + _sentence(_english(whom, then))
    german = _sentence(_german(who, what), und) + " " + _sentence(_german(whom, then))
    return english, german, (what.lemma, then.lemma)


def _because(rng: random.Random) -> Pair:
    (who, what), (whom, then) = _clause(rng), _clause(rng)
    english = f"{_english(who, what)} because {_english(whom, then)}"
    german = _sentence(_german(who, what), ", weil ") + _subordinate(whom, then)
    return _sentence(english), _sentence(german), (what.lemma, then.lemma)


def _reported(rng: random.Random) -> Pair:
    who, what = _clause(rng)
    says, sagt = rng.choice(REPORTING)
    german = f"{sagt} {_subordinate(who, what)}"
    return _sentence(f"{says} {_english(who, what)}"), _sentence(german), (what.lemma,)


def _existence(rng: random.Random) -> Pair:
    noun = rng.choice(NOUNS[rng.choice(["person", "animal", "thing", "text", "food"])])
    thing, (where, wo) = noun_object(rng, noun, "acc", "a"), rng.choice(PLACES)
    be = "are" if thing.person == WIR else "is"
    english, german = f"there {be} {thing.english} {where}", f"es gibt {thing.german} {wo}"
    return _sentence(english), _sentence(german), (f"{noun.english} {where}",)


def _enquiry(rng: random.Random) -> Pair:
    noun = rng.choice(NOUNS[rng.choice(["animal", "thing", "place", "food", "drink", "text"])])
    case = rng.choice(["nom", "acc"])
    thing = noun_object(rng, noun, case, "a" if case == "acc" else "")
    several = thing.person == WIR
    if case == "acc":
        english, german = f"I would like {thing.english}.", f"ich möchte {thing.german}."
    elif rng.random() < 0.5:
        english = f"where {'are' if several else 'is'} {thing.english}?"
        german = f"wo {'sind' if several else 'ist'} {thing.german}?"
    else:
        english = f"how much {'do' if several else 'does'} {thing.english} cost?"
        german = f"wie viel {'kosten' if several else 'kostet'} {thing.german}?"
    return english, german, (f"{english[:5]} {thing.english}",)


def _saying(rng: random.Random) -> Pair:
    english, german = rng.choice(SAYINGS)
    number, zahl = rng.choice(NUMBERS[:-1])
    city = names.city(rng, 0.5)
    slots = {"a": names.first_name(rng, 0.5), "c": names.first_name(rng, 0.5)}
    said = english.format(**slots, b=city, n=number)
    return said, german.format(**slots, b=lexicon.city(city), z=zahl), (said,)


def _fixed(rng: random.Random) -> Pair:
    """Set phrases. They are never held out, because they have to be memorised."""
    return *rng.choice(FIXED), ()
