"""Text for the summarization model: short news reports with one-sentence summaries.

The main news has several wordings and can be anywhere in the report. Details, quotations and other
news around it do not belong in the summary.
"""

from __future__ import annotations

import random
import re

from . import names
from .split import Example
from .wordlist import phrases

# First line: the summary. Other lines: wordings of the same news in a report.
_STORIES = """
{org} will open a new {site} in {city}.
{org} announced {when} that it plans to build a new {site} in {city}, creating {n} jobs.
The city of {city} will get a new {site}, built by {org}, officials said {when}.
After months of talks, {org} has chosen {city} as the location of its next {site}.
A new {site} worth {n} million euros will be opened by {org} in {city}, it was announced {when}.

{org} will close its {site} in {city}.
{org} said {when} that its {site} in {city} would be shut down, with the loss of {n} jobs.
About {n} workers will lose their jobs because {org} is closing its {site} in {city}.
The {site} in {city} is to be closed by its owner {org}, the company confirmed {when}.

{org} has bought {org2} for {n} million euros.
{org} agreed {when} to acquire its rival {org2} in a deal worth {n} million euros.
In a deal valued at {n} million euros, {org2} was taken over by {org} {when}.
Shareholders of {org2} accepted an offer of {n} million euros from {org} {when}.

{person} has been named {job} of {org}.
{org} appointed {person} as its new {job} {when}, replacing {person2}.
The new {job} of {org} is {person}, who will take over from {person2} {when}.
{person} will become {job} of {org}, the board decided {when}.

{person} has resigned as {job} of {org}.
The {job} of {org}, {person}, stepped down {when} after {n} months in office.
{person} announced {when} that he would leave his post as {job} of {org}.
After a dispute with the board, {org} lost its {job} {person} {when}.

{city} beat {city2} {score} in the {cup}.
A goal in the last minute gave {city} a {score} victory over {city2} in the {cup} {when}.
In front of {n} fans, {city} defeated {city2} {score} in the {cup} {when}.
{city2} were beaten {score} by {city} in the {cup} {when}, their third defeat in a row.

{person} won the {race} in {city}.
{person} took first place in the {race} in {city} {when}, ahead of {person2}.
The {race} in {city} was won by {person}, who finished {n} seconds before {person2}.
Despite heavy rain, {person} beat {n} others to victory {when} in the {race} in {city}.

A {disaster} in {city} has injured {n} people.
At least {n} people were hurt when a {disaster} struck {city} {when}.
Hospitals in {city} treated {n} injured people {when} after a {disaster}.
A {disaster} hit the centre of {city} {when}, leaving {n} people injured.

A fire has destroyed a {building} in {city}.
Firefighters in {city} fought all night {when}, but the old {building} burned to the ground.
A {building} in {city} was completely destroyed by a fire {when}.
Flames spread quickly through a {building} in {city} {when} and nothing could be saved.

Researchers in {city} have developed a {invention}.
A team led by {person} at the university of {city} has built a {invention} after {n} months of work.
Scientists from the university of {city} presented a {invention} {when}.
A {invention} has been invented at the university of {city}, the journal reported {when}.

The {building} in {city} will be renovated for {n} million euros.
{city} has decided to spend {n} million euros on the renovation of its {building}.
The council of {city} voted {when} to renovate the {building}, which will cost {n} million euros.
At a cost of {n} million euros, the {building} in {city} is to be restored, mayor {person} said.

Workers of {org} in {city} are on strike for higher pay.
Hundreds of employees of {org} in {city} stopped work {when} to demand higher wages.
A strike for more money began {when} at {org} in {city}, involving {n} workers.
{org} could not produce anything in {city} {when}, as {n} workers walked out over pay.

{person} has been elected mayor of {city}.
Voters in {city} chose {person} as their new mayor {when}, with {n} votes more than {person2}.
The next mayor of {city} will be {person}, who defeated {person2} in the election {when}.
{person} won the mayoral election in {city} {when}.

{org} will recall {n} thousand {products}.
{org} is calling back {n} thousand {products} because of a fault, it said {when}.
Owners of {n} thousand {products} must return them to {org} because they can catch fire.
A safety problem with {products} forces {org} to recall {n} thousand of them, a spokesman said.

{person} has written a book about {city}.
The history of {city} is the subject of a new book by {person}, published {when}.
{person} presented a book {when} that tells the story of {city} over {n} years.
A book about {city} and its people, written by {person}, appeared {when}.

Police in {city} have arrested {person} for {crime}.
{person} was taken into custody by police in {city} {when} on suspicion of {crime}.
Officers in {city} detained {person} {when}, who is accused of {crime}.
A man named {person} was arrested {when} in {city} and charged with {crime}.

{org} and {org2} will build {products} together.
{org} signed an agreement with {org2} {when} to produce {products} jointly.
A partnership of {org} and {org2} for making {products} was announced {when}.
{org} is joining forces with {org2}: together they want to make {products}.

The {festival} in {city} attracted {n} thousand visitors.
About {n} thousand people came to the {festival} in {city}, which ended {when}.
The {festival} in {city} drew {n} thousand guests this year, the organisers said {when}.
Organisers counted {n} thousand visitors at the {festival} in {city} {when}.
"""

ASIDES = """
"We are very happy about this decision," said {p3}.
"This is an important day for all of us," {p3} told reporters.
"Nobody expected this," said {p3}, who lives nearby.
The weather was {weather} at the time.
More details will be published next week.
A spokesman for {o3} declined to comment.
Experts from {o3} had been asked for advice.
Shares of {o3} were unchanged.
{p3} of {o3} called the news surprising.
A similar case was reported in {c3} two years ago.
The mayor of {c3} sent a message of support.
{p3}, who was born in {c3}, could not be reached.
It is not yet clear what will happen next.
Many people followed the events on television.
Local newspapers had reported about the plans in the spring.
{p3} thanked everyone for their patience.
Tourists from {c3} took photographs.
Critics say that it came too late.
A meeting with {p3} is planned for the summer.
The road to {c3} was closed for {m} hours.
Some {m} journalists attended the press conference.
"I have waited {m} years for this," {p3} added.
"""
OPENINGS = """
It was a busy week in the region.
There was big news from the region this week.
People had been talking about it for days.
Rumours had been around for {m} months.
What {p3} had predicted has now come true.
Reporters had gathered early in the morning.
"""
WORDS = {
    "site": "factory|office|warehouse|laboratory|store|hotel|data centre|shipyard|airport|school",
    "job": "chief executive|chairman|chairwoman|finance director|head coach|president|director",
    "when": "on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|yesterday|last week|today",
    "score": "1-0|2-0|2-1|3-0|3-1|3-2|4-0|4-1|4-2|4-3|5-1|5-2",
    "cup": "cup final|league match|semifinal|quarterfinal|opening match|friendly match",
    "race": "marathon|cycling race|ski race|chess tournament|tennis open|swimming contest|car rally",
    "disaster": "storm|tornado|bus crash|train accident|gas explosion|flood|landslide",
    "building": "theatre|museum|library|castle|church|train station|stadium|market hall|cinema",
    "invention": "solar car|cheaper battery|flying robot|faster chip|blood test|new vaccine"
    "|talking robot|tiny camera|water filter|quantum computer",
    "products": "cars|phones|laptops|washing machines|batteries|bicycles|cameras|toys|trucks",
    "crime": "fraud|theft|robbery|smuggling|bribery|arson|blackmail|burglary",
    "festival": "jazz festival|film festival|book fair|food festival|science fair|rock concert",
    "weather": "sunny|cold|rainy|windy|warm|foggy",
}
_WORDS = {slot: phrases(text) for slot, text in WORDS.items()}
_ASIDES, _OPENINGS = ASIDES.strip().splitlines(), OPENINGS.strip().splitlines()
STORIES = [
    (summary, wordings)
    for summary, *wordings in (block.splitlines() for block in _STORIES.strip().split("\n\n"))
]
_SLOT = re.compile(r"\{(\w+)\}")


def report(rng: random.Random) -> Example[str]:
    """A paragraph of one to six sentences. A summary occurs in training or in held-out text, not in both."""
    summary, wordings = rng.choice(STORIES)
    facts = _facts(rng)
    told = _filled(rng.choice(wordings), facts)
    around = [
        _filled(line, facts) for line in rng.sample(_ASIDES, rng.choice([0, 1, 1, 2, 2, 3, 4]))
    ]
    if rng.random() < 0.3:
        around.insert(0, _filled(rng.choice(_OPENINGS), facts))
        position = 1
    else:
        position = 0 if rng.random() < 0.7 else rng.randint(0, len(around))
    sentences = [*around[:position], told, *around[position:]]
    target = _filled(summary, facts)
    return Example(" ".join(sentences), target, (target,))


def _filled(template: str, facts: dict[str, str]) -> str:
    text = _SLOT.sub(lambda slot: facts[slot[1]], template)
    return text[0].upper() + text[1:]


def _facts(rng: random.Random) -> dict[str, str]:
    """Values for the slots of a report: no person or thing has two roles."""
    cities = _different(rng, names.city, 3)
    facts = {slot: rng.choice(words) for slot, words in _WORDS.items()}
    facts |= dict(zip(("city", "city2", "c3"), cities, strict=True))
    facts |= dict(zip(("org", "org2", "o3"), _different(rng, names.company, 3), strict=True))
    facts |= dict(zip(("person", "person2", "p3"), _different(rng, _person, 3), strict=True))
    return facts | {"n": _number(rng), "m": _number(rng)}


def _different(rng: random.Random, make: names.Maker, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[make(rng)] = None
    return list(found)


def _person(rng: random.Random) -> str:
    return f"{names.first_name(rng)} {names.surname(rng)}"


def _number(rng: random.Random) -> str:
    return str(rng.choice([rng.randrange(2, 20), 10 * rng.randrange(2, 50)]))
