"""Names of people, places and organisations: real names, and any number of made-up ones.

Made-up names are composed of syllables, so that a model cannot memorise them: it has to recognise them
by their context and copy them token by token.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

from .wordlist import phrases, words

Maker: TypeAlias = Callable[[random.Random], str]

FIRST_NAMES = words("""
Aaron Adam Ahmed Aisha Akira Alan Alice Amara Amir Amy Ana Andrea Andrew Angela Anita Anna Anton
Arthur Astrid Barbara Ben Bernd Bianca Boris Brian Carla Carlos Carmen Caroline Charles Chloe Chris
Clara Claudia Daniel David Deepa Diana Diego Dmitri Elena Elias Elizabeth Emil Emily Emma Erik Eva
Fatima Felix Fiona Francesca Frank Frida George Grace Greta Hannah Hans Hassan Heidi Helen Henry
Hiroshi Hugo Ibrahim Ines Ingrid Irina Isabel Ivan Jack James Jane Jan Jessica Joan John Jonas Jose
Joseph Julia Karim Karl Kate Kenji Kevin Klaus Kofi Lara Laura Leila Leo Linda Lisa Louis Lucia
Lukas Magda Marco Maria Marie Mark Martha Martin Mary Matteo Max Mei Michael Miguel Mila Mohammed
Nadia Nancy Natasha Nina Noah Nora Olga Oliver Omar Oscar Pablo Patricia Paul Paula Peter Philip
Priya Rachel Rafael Raj Rebecca Richard Robert Rosa Ruth Samuel Sandra Sara Sarah Sergei Simon Sofia
Sophie Stefan Susan Sylvain Tanja Thomas Tim Tom Ursula Vera Victor Wei William Wolfgang Yuki Yusuf
Zara Zoe
""")

SURNAMES = words("""
Adams Ahmed Alvarez Anderson Bauer Baker Becker Bennett Berger Bergman Bianchi Brandt Brown Carter
Chen Clark Cohen Collins Cooper Costa Davies Davis Diaz Dubois Edwards Evans Ferrari Fischer Foster
Garcia Gonzalez Graham Gray Green Hall Hansen Harris Hernandez Hill Hoffmann Hughes Ivanov Jackson
Jansen Jensen Johnson Jones Kaya Keller Kelly Khan Kim King Klein Kowalski Kumar Lang Larsen Lee
Lewis Lopez Maier Martinez Mendes Meyer Miller Mitchell Moore Morgan Moreau Mueller Murphy Nakamura
Nguyen Nielsen Novak Okafor Olsen Ortega Owens Parker Patel Pereira Peters Petrov Phillips Popov
Quinn Ramirez Reed Reyes Rice Richter Roberts Robinson Rossi Russell Santos Sato Schmidt Schneider
Schulz Scott Sharma Silva Simmons Singh Smith Sokolov Stewart Suzuki Tanaka Taylor Thompson Torres
Tran Turner Vargas Vogel Wagner Walker Wang Ward Watson Weber White Williams Wilson Wolf Wong Wood
Wright Yamamoto Yilmaz Young Zhang Zimmermann
""")

CITIES = phrases("""
Amsterdam|Athens|Atlanta|Baghdad|Bangkok|Barcelona|Beijing|Beirut|Berlin|Bonn|Boston|Brisbane
Brussels|Budapest|Cairo|Calgary|Chicago|Cologne|Copenhagen|Dallas|Delhi|Denver|Detroit|Dresden
Dublin|Edinburgh|Frankfurt|Geneva|Glasgow|Hamburg|Hanoi|Helsinki|Houston|Istanbul|Jakarta
Johannesburg|Kyoto|Lagos|Leipzig|Lima|Lisbon|Liverpool|London|Los Angeles|Lyon|Madrid|Manchester
Manila|Melbourne|Mexico City|Miami|Milan|Montreal|Moscow|Mumbai|Munich|Nairobi|Naples|New York
Osaka|Oslo|Ottawa|Oxford|Paris|Philadelphia|Phoenix|Porto|Prague|Rome|Rotterdam|San Francisco
Santiago|Seattle|Seoul|Shanghai|Singapore|Stockholm|Stuttgart|Sydney|Tehran|Tokyo|Toronto|Turin
Vancouver|Vienna|Warsaw|Washington|Zurich
""")

COUNTRIES = phrases("""
Argentina|Australia|Austria|Bangladesh|Belgium|Brazil|Canada|Chile|China|Colombia|Cuba|Denmark
Egypt|Ethiopia|Finland|France|Germany|Ghana|Greece|Hungary|Iceland|India|Indonesia|Iran|Iraq
Ireland|Israel|Italy|Japan|Jordan|Kenya|Malaysia|Mexico|Morocco|Nepal|New Zealand|Nigeria|Norway
Pakistan|Peru|Poland|Portugal|Romania|Russia|Saudi Arabia|Serbia|South Africa|South Korea|Spain
Sudan|Sweden|Switzerland|Syria|Thailand|Turkey|Ukraine|Venezuela|Vietnam
""")

COMPANIES = phrases("""
Adidas|Airbus|Amazon|Apple|Bayer|Boeing|Cisco|Citigroup|Daimler|Dell|Deutsche Bank|Ericsson|Exxon
Facebook|Ford|General Electric|General Motors|Goldman Sachs|Google|Honda|Hugging Face|IBM|Ikea
Intel|Lufthansa|Mercedes|Microsoft|Nestle|Netflix|Nike|Nokia|Nvidia|Oracle|Panasonic|Pfizer
Samsung|Shell|Siemens|Sony|Tesla|Toyota|Vodafone|Volkswagen|Walmart|Yahoo
""")

_ONSETS = words("b br c ch d dr f g gr h j k kr l m n p pr r s sh st t tr v w z")
_VOWELS = words("a e i o u a e i o ai ea ou")
_CODAS = ["", "", "", "l", "n", "r", "s", "m", "nd", "rt", "ck", "x"]
_PLACE_ENDINGS = words("ville burg ford ton stad field port berg ham mouth grad dale bridge wick")
_ORG_ENDINGS = words("tech soft corp ware dyne systems motors tron gen net")


def syllable(rng: random.Random) -> str:
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)


def invented(rng: random.Random, syllables: int = 2) -> str:
    return "".join(syllable(rng) for _ in range(syllables)).capitalize()


def first_name(rng: random.Random, invented_share: float = 0.25) -> str:
    if rng.random() >= invented_share:
        return rng.choice(FIRST_NAMES)
    return invented(rng, rng.choice([1, 2])) + rng.choice(["", "", "a", "o", "e", "ia"])


def surname(rng: random.Random, invented_share: float = 0.25) -> str:
    if rng.random() >= invented_share:
        return rng.choice(SURNAMES)
    return invented(rng, rng.choice([1, 2])) + rng.choice(
        ["", "", "son", "er", "man", "ez", "ov", "ini", "sen", "ski"]
    )


def city(rng: random.Random, invented_share: float = 0.25) -> str:
    if rng.random() >= invented_share:
        return rng.choice(CITIES)
    return invented(rng, rng.choice([1, 1, 2])) + rng.choice(_PLACE_ENDINGS)


def company(rng: random.Random, invented_share: float = 0.25) -> str:
    if rng.random() >= invented_share:
        return rng.choice(COMPANIES)
    return invented(rng, rng.choice([1, 2])) + rng.choice(_ORG_ENDINGS)
