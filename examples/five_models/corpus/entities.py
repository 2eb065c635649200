"""Text for the NER model: sentences in which people, organisations, places and other names are tagged.

Tags are those of CoNLL 2003, one per word. Many names can be recognised by their context only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from . import names, reviews
from .split import Example
from .wordlist import phrases, words

LABELS = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]

NATIONALITIES = words("""
American Argentine Australian Austrian Belgian Brazilian British Canadian Chilean Chinese Cuban
Czech Danish Dutch Egyptian English European Finnish French German Greek Hungarian Indian Indonesian
Iranian Iraqi Irish Israeli Italian Japanese Kenyan Korean Mexican Moroccan Norwegian Pakistani
Palestinian Polish Portuguese Russian Saudi Scottish Serbian Spanish Swedish Swiss Syrian Thai
Turkish Ukrainian Vietnamese
""")
EVENTS = phrases("""
World Cup|Olympic Games|Champions League|Nobel Prize|Davis Cup|Super Bowl|Grand Prix|Cold War|Oscar
Grammy Awards|World War II|European Championship|Tour de France|Wimbledon|Ryder Cup|Oktoberfest
Christmas|Easter|Ramadan|Asian Games|Pulitzer Prize|Euro 2004|Windows|Linux|iPhone|Star Wars|Hamlet
""")
INSTITUTIONS = phrases("""
United Nations|European Union|World Bank|NATO|UNICEF|Red Cross|NASA|FBI|Congress|Senate|Reuters|BBC
European Commission|Supreme Court|Labour Party|Democratic Party|Green Party|Real Madrid
Manchester United|Bayern Munich|Chicago Bulls|New York Yankees|World Health Organization|FIFA
Amnesty International|Harvard|Ministry of Finance|Foreign Ministry|Interpol|Greenpeace|CNN|OPEC
""")
REGIONS = phrases("""
Europe|Asia|Africa|California|Texas|Bavaria|Siberia|Scotland|Florida|Quebec|Tuscany|Kashmir
Middle East|West Bank|North Sea|Pacific Ocean|Lake Victoria|Mount Everest|River Thames|Rhine
Black Sea|Golden Gate Bridge|Central Park|Wall Street|Times Square|Heathrow Airport|Brooklyn
""")
TITLES = words("Mr Mrs Dr Prof President Minister Senator Judge Captain Sir Queen Prince Pope")
JOBS = words("""
president chairman spokesman spokeswoman manager coach engineer singer actor doctor lawyer teacher
farmer striker goalkeeper writer scientist professor minister mayor economist analyst photographer
""")
THINGS = words("""
report contract plan house car office factory bridge deal song novel product museum garden letter
computer camera train ship school hotel farm meeting project design software study picture
""")
VERBS = words("""
visited praised criticised met called sued joined left bought sold beat supported warned hired
welcomed defended thanked ignored rejected blamed invited accused contacted followed
""")
WHEN = phrases("""
yesterday|today|tomorrow|on Monday|on Tuesday|on Friday|in March|in August|last week|next year
in 1998|in 2004|this morning|on Sunday night|after the meeting|before lunch|two days ago|in December
""")
PLAIN = phrases("""
The weather was nice {when}|She bought a new {thing} {when}|Nobody knows where the {thing} is
He said that the {thing} was too expensive|We will talk about the {thing} {when}|This is a {thing}
It rained all day {when}|The {job} did not answer the question|A {job} found the {thing} {when}
There are 23 people in the room|I like the {thing} very much|Police closed the road {when}
Please send me the {thing} {when}|Prices rose by 3 percent {when}|How much is the {thing} ?
""")

# Slots in capitals are tagged names, slots in small letters ordinary words.
TEMPLATES = (
    """
My name is {FIRST} and I live in {LOC}|My name is {PER} and I work at {ORG} in {LOC}
I am {PER} and I come from {LOC}|{PER} lives in {LOC}|{PER} was born in {LOC} in 1967
{PER} {verb} {PER} {when}|{ORG} {verb} {ORG} {when}|{PER} {verb} {ORG} {when}|{LOC} {verb} {LOC}
{PER} , a {MISC} {job} , {verb} {PER} in {LOC}|{PER} works for {ORG}|{ORG} is based in {LOC}
{ORG} opened a new {thing} in {LOC} {when}|{PER} joined {ORG} as {job} {when}
The {MISC} {job} {PER} flew from {LOC} to {LOC} {when}|{title} {SUR} {verb} {title} {SUR}
{title} {PER} of {ORG} spoke in {LOC}|The {thing} in {LOC} was designed by {PER}
{ORG} said {when} that it would sell its {thing} to {ORG}|{MISC} {job} {PER} won the {EVENT}
{LOC} will host the {EVENT} {when}|{PER} and {PER} travelled to {LOC} {when}
{PER} , {job} of {ORG} , said the {thing} was ready|Shares of {ORG} fell {when}
" I like {LOC} , " said {PER}|A {MISC} court ordered {ORG} to pay {ORG}
{LOC} , {LOC} {when}|{LOC} beat {LOC} in the {EVENT} {when}|{FIRST} likes {MISC} food
The {job} of {LOC} , {PER} , met {PER} of {LOC}|{PER} ( {LOC} ) beat {PER} ( {LOC} ) 6-4 7-5
Troops from {LOC} entered {LOC} {when}|The {thing} that {FIRST} wrote about {LOC} is good
{FIRST} and {FIRST} met at {ORG} {when}|Is {FIRST} in {LOC} {when} ?|We met {FIRST} in {LOC} {when}
{PER} told {ORG} that the {MISC} {thing} was late|I work for {ORG} in {LOC}|{PER} founded {ORG} {when}
The {EVENT} took place in {LOC} {when}|{PER} studied at {ORG} in {LOC}|{ORG} hired {PER} {when}
The {MISC} government and {ORG} signed a {thing} in {LOC}|{PER} speaks {MISC} and {MISC}
{SUR} scored twice for {ORG} against {ORG} {when}|In {LOC} , {PER} {verb} the {job}
According to {PER} , the {thing} belongs to {ORG}|{ORG} , {ORG} and {ORG} are competitors
{PER} moved from {LOC} to {LOC} to work for {ORG}|{LOC} is the capital of {LOC}|{LOC} is beautiful
{ORG} is a company based in {LOC}|I have a {thing} from {LOC}|{ORG} is a {thing} maker
{ORG} and {ORG} agreed to build a {thing} near {LOC}|{FIRST} , can you call {FIRST} {when} ?
Yesterday {PER} visited {LOC}|The {job} {SUR} denied it {when}|I flew to {LOC} with {FIRST} {when}
""".strip()
    .replace("\n", "|")
    .split("|")
)

_SLOT = re.compile(r"\{(\w+)\}")


def sentence(rng: random.Random) -> Example[list[str]]:
    """A sentence of space-separated words and one tag per word."""
    if rng.random() < 0.1:
        return _nameless(rng)
    template = rng.choice(PLAIN) if rng.random() < 0.06 else rng.choice(TEMPLATES)
    words: list[str] = []
    tags: list[str] = []
    spoken: list[str] = []
    for token in template.split():
        slot = _SLOT.fullmatch(token)
        filled, kind = _fill(rng, slot[1]) if slot else (token, "")
        words += filled.split()
        tags += _tags(len(filled.split()), kind)
        spoken += [filled] if kind in {"PER", "ORG", "LOC"} else []
    return _finished(rng, words, tags, (*spoken, template + (words[0] if not spoken else "")))


def _nameless(rng: random.Random) -> Example[list[str]]:
    """A sentence of a review, which contains no names."""
    review = reviews.review(rng)
    return Example(review.text, ["O"] * len(review.text.split()), review.combinations)


def _finished(
    rng: random.Random, words: list[str], tags: list[str], combinations: tuple[str, ...]
) -> Example[list[str]]:
    """The sentence, usually with a final stop. Its first name decides between training and held-out text."""
    if words[-1] != "?" and rng.random() < 0.85:
        words, tags = [*words, "."], [*tags, "O"]
    return Example(" ".join(words), tags, (" ".join(combinations[:2]),))


def _tags(count: int, kind: str) -> list[str]:
    return [f"B-{kind}"] + [f"I-{kind}"] * (count - 1) if kind else ["O"] * count


def _fill(rng: random.Random, slot: str) -> tuple[str, str]:
    if slot in _NAMES:
        return _NAMES[slot](rng)
    # Sometimes an unknown word in small letters, which is not a name.
    if slot in {"thing", "job", "verb"} and rng.random() < 0.15:
        return names.invented(rng).lower() + ("ed" if slot == "verb" else ""), ""
    return rng.choice(_WORDS[slot]), ""


def _person(rng: random.Random) -> tuple[str, str]:
    middle = f" {rng.choice('ABCDEFGHJKLMPRSTW')}." if rng.random() < 0.05 else ""
    return f"{names.first_name(rng)}{middle} {names.surname(rng)}", "PER"


def _organisation(rng: random.Random) -> tuple[str, str]:
    style = rng.randrange(6)
    if style == 0:
        return rng.choice(INSTITUTIONS), "ORG"
    if style == 1:
        return f"University of {names.city(rng)}", "ORG"
    if style == 2:
        kinds = ["Bank", "University", "United", "City", "Hospital", "Airlines", "Police", "FC"]
        return f"{names.city(rng)} {rng.choice(kinds)}", "ORG"
    if style == 3:
        kinds = [
            "Inc",
            "Inc.",
            "Corp",
            "Ltd",
            "AG",
            "Group",
            "Holdings",
            "Partners",
            "& Co",
            "Motors",
        ]
        return f"{names.surname(rng)} {rng.choice(kinds)}", "ORG"
    return names.company(rng), "ORG"


def _place(rng: random.Random) -> tuple[str, str]:
    style = rng.random()
    if style < 0.3:
        return rng.choice(names.COUNTRIES), "LOC"
    if style < 0.42:
        return rng.choice(REGIONS), "LOC"
    return names.city(rng), "LOC"


_NAMES: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "PER": _person,
    "FIRST": lambda rng: (names.first_name(rng), "PER"),
    "SUR": lambda rng: (names.surname(rng), "PER"),
    "ORG": _organisation,
    "LOC": _place,
    "MISC": lambda rng: (rng.choice(NATIONALITIES), "MISC"),
    "EVENT": lambda rng: (rng.choice(EVENTS), "MISC"),
}
_WORDS = {"thing": THINGS, "job": JOBS, "verb": VERBS, "when": WHEN, "title": TITLES}
