"""An English-German lexicon and German inflection.

Every entry has both languages, so that a phrase is generated in both at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from .wordlist import pairs

# english | english plural | german | gender | german plural
_NOUNS = {
    "person": """
man men Mann m Männer
woman women Frau f Frauen
child children Kind n Kinder
girl girls Mädchen n Mädchen
friend friends Freund m Freunde
teacher teachers Lehrer m Lehrer
doctor doctors Arzt m Ärzte
mother mothers Mutter f Mütter
father fathers Vater m Väter
brother brothers Bruder m Brüder
sister sisters Schwester f Schwestern
daughter daughters Tochter f Töchter
son sons Sohn m Söhne
uncle uncles Onkel m Onkel
aunt aunts Tante f Tanten
grandmother grandmothers Großmutter f Großmütter
grandfather grandfathers Großvater m Großväter
boss bosses Chef m Chefs
cook cooks Koch m Köche
singer singers Sänger m Sänger
driver drivers Fahrer m Fahrer
baker bakers Bäcker m Bäcker
farmer farmers Landwirt m Landwirte
writer writers Schriftsteller m Schriftsteller
engineer engineers Ingenieur m Ingenieure
king kings König m Könige
queen queens Königin f Königinnen
family families Familie f Familien
team teams Mannschaft f Mannschaften
player players Spieler m Spieler
""",
    "animal": """
dog dogs Hund m Hunde
cat cats Katze f Katzen
horse horses Pferd n Pferde
bird birds Vogel m Vögel
fish - Fisch m -
cow cows Kuh f Kühe
mouse mice Maus f Mäuse
sheep - Schaf n -
duck ducks Ente f Enten
pig pigs Schwein n Schweine
""",
    "thing": """
car cars Auto n Autos
house houses Haus n Häuser
table tables Tisch m Tische
chair chairs Stuhl m Stühle
lamp lamps Lampe f Lampen
key keys Schlüssel m Schlüssel
picture pictures Bild n Bilder
phone phones Telefon n Telefone
computer computers Computer m Computer
bicycle bicycles Fahrrad n Fahrräder
ball balls Ball m Bälle
bag bags Tasche f Taschen
clock clocks Uhr f Uhren
shirt shirts Hemd n Hemden
coat coats Mantel m Mäntel
hat hats Hut m Hüte
flower flowers Blume f Blumen
tree trees Baum m Bäume
door doors Tür f Türen
window windows Fenster n Fenster
room rooms Zimmer n Zimmer
gift gifts Geschenk n Geschenke
film films Film m Filme
song songs Lied n Lieder
city cities Stadt f Städte
street streets Straße f Straßen
bridge bridges Brücke f Brücken
train trains Zug m Züge
ship ships Schiff n Schiffe
map maps Karte f Karten
box boxes Kiste f Kisten
bottle bottles Flasche f Flaschen
knife knives Messer n Messer
camera cameras Kamera f Kameras
guitar guitars Gitarre f Gitarren
machine machines Maschine f Maschinen
ring rings Ring m Ringe
""",
    "text": """
book books Buch n Bücher
letter letters Brief m Briefe
newspaper newspapers Zeitung f Zeitungen
story stories Geschichte f Geschichten
question questions Frage f Fragen
answer answers Antwort f Antworten
word words Wort n Wörter
""",
    "place": """
station stations Bahnhof m Bahnhöfe
garden gardens Garten m Gärten
kitchen kitchens Küche f Küchen
school schools Schule f Schulen
park parks Park m Parks
office offices Büro n Büros
hotel hotels Hotel n Hotels
restaurant restaurants Restaurant n Restaurants
museum museums Museum n Museen
hospital hospitals Krankenhaus n Krankenhäuser
library libraries Bibliothek f Bibliotheken
airport airports Flughafen m Flughäfen
village villages Dorf n Dörfer
church churches Kirche f Kirchen
""",
    "drink": """
coffee - Kaffee m -
tea - Tee m -
milk - Milch f -
water - Wasser n -
beer beers Bier n Biere
wine wines Wein m Weine
""",
    "food": """
bread - Brot n -
cheese - Käse m -
apple apples Apfel m Äpfel
egg eggs Ei n Eier
cake cakes Kuchen m Kuchen
soup soups Suppe f Suppen
pizza pizzas Pizza f Pizzas
potato potatoes Kartoffel f Kartoffeln
tomato tomatoes Tomate f Tomaten
banana bananas Banane f Bananen
sausage sausages Wurst f Würste
salad salads Salat m Salate
""",
}

# english base, third person, past | german infinitive | what the object may be
# Irregular German verbs continue with their du and er forms and their past: sehen siehst sieht sah.
_TRANSITIVE = """
see sees saw|sehen siehst sieht sah|person animal thing place food
buy buys bought|kaufen|animal thing food drink
sell sells sold|verkaufen|animal thing food
find finds found|finden findest findet fand|person animal thing food
need needs needed|brauchen|person thing food drink
love loves loved|lieben|person animal thing food place
know knows knew|kennen kennst kennt kannte|person thing place
like likes liked|mögen magst mag mochte|person animal thing food drink place
read reads read|lesen liest liest las|text
write writes wrote|schreiben schreibst schreibt schrieb|text
drink drinks drank|trinken trinkst trinkt trank|drink
watch watches watched|beobachten|person animal
hear hears heard|hören|person animal thing
look_for looks_for looked_for|suchen|person animal thing
visit visits visited|besuchen|person
paint paints painted|malen|animal thing person
repair repairs repaired|reparieren|thing
clean cleans cleaned|putzen|thing
wash washes washed|waschen wäschst wäscht wusch|animal thing
bring brings brought|bringen bringst bringt brachte|thing food
take takes took|nehmen nimmst nimmt nahm|thing food
carry carries carried|tragen trägst trägt trug|thing animal
show shows showed|zeigen|thing animal
forget forgets forgot|vergessen vergisst vergisst vergaß|thing person
eat eats ate|essen isst isst aß|food
cook cooks cooked|kochen|food
hate hates hated|hassen|thing food
ask asks asked|fragen|person
meet meets met|treffen triffst trifft traf|person
draw draws drew|zeichnen|animal thing
photograph photographs photographed|fotografieren|person animal thing
have has had|haben hast hat hatte|animal thing food
"""
_INTRANSITIVE = """
sleep sleeps slept|schlafen schläfst schläft schlief
work works worked|arbeiten
sing sings sang|singen singst singt sang
play plays played|spielen
dance dances danced|tanzen
laugh laughs laughed|lachen
wait waits waited|warten
live lives lived|wohnen
sit sits sat|sitzen sitzt sitzt saß
stand stands stood|stehen stehst steht stand
learn learns learned|lernen
stay stays stayed|bleiben bleibst bleibt blieb
cry cries cried|weinen
swim swims swam|schwimmen schwimmst schwimmt schwamm
"""
_ADJECTIVES = """
old alt|new neu|big groß|small klein|beautiful schön|good gut|bad schlecht|red rot|black schwarz
white weiß|green grün|blue blau|yellow gelb|fast schnell|slow langsam|cheap billig|expensive teuer
strong stark|weak schwach|young jung|long lang|short kurz|warm warm|cold kalt|happy glücklich
sad traurig|clean sauber|dirty schmutzig|heavy schwer|light leicht|quiet leise|loud laut
interesting interessant|boring langweilig|important wichtig|friendly freundlich|famous berühmt
strange seltsam|modern modern|simple einfach|wonderful wunderbar|hungry hungrig|tired müde
funny lustig|rich reich|poor arm|free frei|wet nass|dry trocken|healthy gesund|sick krank
"""

_WEAK = {"nom m": "e", "nom f": "e", "nom n": "e", "acc f": "e", "acc n": "e"}
_MIXED = _WEAK | {"nom m": "er", "nom n": "es", "acc n": "es"}
_THE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
_THIS = {
    "nom": {"m": "dieser", "f": "diese", "n": "dieses", "p": "diese"},
    "acc": {"m": "diesen", "f": "diese", "n": "dieses", "p": "diese"},
    "dat": {"m": "diesem", "f": "dieser", "n": "diesem", "p": "diesen"},
}
_EIN_ENDINGS = {
    "nom": {"m": "", "f": "e", "n": "", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
EIN_WORDS = {
    "a": "ein", "no": "kein", "my": "mein", "your": "dein", "his": "sein", "her": "ihr",
    "our": "unser", "their": "ihr",
}  # fmt: skip
# Stems that change when an ending follows.
_STEMS = {"teuer": "teur", "müde": "müd", "leise": "leis"}


CITIES = {
    "Athens": "Athen", "Beijing": "Peking", "Brussels": "Brüssel", "Cairo": "Kairo",
    "Cologne": "Köln", "Copenhagen": "Kopenhagen", "Geneva": "Genf", "Lisbon": "Lissabon",
    "Mexico City": "Mexiko-Stadt", "Milan": "Mailand", "Moscow": "Moskau", "Munich": "München",
    "Naples": "Neapel", "Prague": "Prag", "Rome": "Rom", "Singapore": "Singapur",
    "Tehran": "Teheran", "Tokyo": "Tokio", "Vienna": "Wien", "Warsaw": "Warschau",
    "Zurich": "Zürich", "Jakarta": "Jakarta", "Baghdad": "Bagdad", "Hanoi": "Hanoi",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Noun:
    """`english_plural` is `-` if the plural is not used."""

    english: str
    english_plural: str
    german: str
    gender: str
    german_plural: str
    kind: str


@dataclass(frozen=True, slots=True)
class Verb:
    """`english`: base, third person, past. `present` and `past`: the German ich, du, er, wir."""

    english: tuple[str, ...]
    infinitive: str
    present: tuple[str, ...]
    past: tuple[str, ...]
    objects: tuple[str, ...]


def _verb(line: str) -> Verb:
    english, german, *objects = line.split("|")
    spoken = tuple(word.replace("_", " ") for word in english.split())
    infinitive, *irregular = german.split()
    du, er, past = irregular or _regular(infinitive.removesuffix("en"))
    # Verbs like mögen have one form for ich and er.
    ich = infinitive.removesuffix("n") if er.endswith("t") else er
    present = (ich, du, er, infinitive)
    return Verb(spoken, infinitive, present, _past(past), tuple(" ".join(objects).split()))


def _regular(stem: str) -> list[str]:
    """The forms for du and er and the past. A stem like arbeit- gets an e before the ending."""
    link = "e" if stem.endswith(("t", "d", "chn")) else ""
    du = stem + ("t" if stem.endswith(("s", "z")) else f"{link}st")
    return [du, f"{stem}{link}t", f"{stem}{link}te"]


def _past(ich: str) -> tuple[str, str, str, str]:
    du = ich + ("est" if ich.endswith(("d", "t", "s", "ß", "sch")) else "st")
    return ich, du, ich, ich + ("n" if ich.endswith("e") else "en")


def _noun(line: str, kind: str) -> Noun:
    english, english_plural, german, gender, german_plural = line.split()
    return Noun(english, english_plural, german, gender, german_plural, kind)


NOUNS = {
    kind: [_noun(line, kind) for line in table.strip().splitlines()]
    for kind, table in _NOUNS.items()
}
TRANSITIVE = [_verb(line) for line in _TRANSITIVE.strip().splitlines()]
INTRANSITIVE = [_verb(line) for line in _INTRANSITIVE.strip().splitlines()]
ADJECTIVES = pairs(_ADJECTIVES.replace(" ", "="))


def article(determiner: str, case: str, gender: str) -> str:
    """The German determiner; `gender` is m, f, n or p for the plural."""
    if determiner in EIN_WORDS:
        return EIN_WORDS[determiner] + _EIN_ENDINGS[case][gender]
    return {"the": _THE, "this": _THIS}[determiner][case][gender]


def city(english: str) -> str:
    return CITIES.get(english, english)


def declined(stem: str, determiner: str, case: str, gender: str) -> str:
    """The adjective before a noun, after the given kind of determiner."""
    endings = _MIXED if determiner in EIN_WORDS else _WEAK
    return _STEMS.get(stem, stem) + endings.get(f"{case} {gender}", "en")


def strong_plural(stem: str) -> str:
    """The adjective after a number, in nominative or accusative."""
    return _STEMS.get(stem, stem) + "e" if stem else ""


def noun_phrase(noun: Noun, determiner: str, adjective: str, case: str, plural: bool) -> str:
    gender = "p" if plural else noun.gender
    words = [article(determiner, case, gender)]
    if adjective:
        words.append(declined(adjective, determiner, case, gender))
    return " ".join([*words, noun.german_plural if plural else noun.german])
