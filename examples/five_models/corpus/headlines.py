"""Text for the topic model: news items in the four topics of AG News.

All topics use the same places, people, companies, days and figures; they differ by what happens.
"""

from __future__ import annotations

import random
import re

from . import names
from .split import Example
from .wordlist import phrases

TOPICS = ["World", "Sports", "Business", "Sci/Tech"]

# Per topic: who acts, what they do, to what, and what a second sentence adds.
ACTORS = {
    "World": """
president|prime minister|foreign minister|rebels|insurgents|government|soldiers|troops|militants
protesters|voters|parliament|opposition leader|UN envoy|peacekeepers|gunmen|hostages|police|king
refugees|diplomats|court|army|suicide bomber|separatists|aid workers|security forces|ambassador
earthquake|flood|typhoon|hurricane|bomb|car bomb|explosion|election commission|villagers|pope
""",
    "Sports": """
striker|goalkeeper|coach|quarterback|midfielder|defender|champions|home team|national team|captain
sprinter|swimmer|cyclist|tennis star|golfer|boxer|pitcher|rookie|league leaders|visitors|skipper
top seed|defending champion|world record holder|hosts|batsman|bowler|winger|forward|club|fans
gymnast|marathon runner|sailor|racing driver|ski jumper|referee|wrestler|point guard|olympian
""",
    "Business": """
shares|stocks|chief executive|investors|retailer|bank|central bank|airline|carmaker|oil giant
insurer|shareholders|regulators|economists|manufacturer|analysts|oil prices|crude futures|dollar
euro|unemployment|consumer spending|exports|supermarket chain|brewer|drugmaker|hedge fund|lender
finance ministry|treasury|drinks maker|steelmaker|energy company|creditors|stock exchange|traders
inflation|housing market|auditors|trade deficit|private equity firm
""",
    "Sci/Tech": """
scientists|researchers|astronomers|engineers|software maker|chipmaker|hackers|spacecraft|telescope
search engine|web browser|operating system|robot|satellite|biologists|physicists|programmers|probe
computer virus|internet users|video game maker|smartphone|laptop|space agency|astronauts|geneticists
open source project|supercomputer|wireless network|web site|mobile phone maker|climate researchers
paleontologists|rocket|space shuttle|antivirus company|developers|archaeologists|neural network
""",
}
ACTIONS = {
    "World": """
condemned the attack|declared a state of emergency|signed a peace treaty|won the election
killed 12 people|called for new sanctions|released the hostages|rejected the cease-fire
fled the fighting|resigned after the protests|withdrew from the occupied town|attacked a convoy
demanded a recount of the votes|agreed to hold peace talks|stormed the embassy|freed the prisoners
accused the neighbouring country of spying|left thousands homeless|struck the northern province
arrested the opposition leader|ended the siege|voted for a new constitution|opened the border
discussed the nuclear crisis|sent humanitarian aid|clashed with police|imposed a curfew
expelled the diplomats|invaded the disputed region|was sentenced for war crimes|formed a coalition
announced a truce|denounced the military coup|evacuated the coastal villages
""",
    "Sports": """
scored twice in the second half|won the gold medal|lost the semifinal|signed a contract with the club
broke the world record|missed a penalty|clinched the title|advanced to the quarterfinals
was suspended for doping|beat the visitors 3-1|hit a home run in the ninth inning|won in overtime
threw three touchdown passes|finished second in the marathon|injured his knee in training
was fired after the defeat|took the lead in the championship|won the grand slam|scored a hat trick
defended the crown|reached the final of the cup|shot a final round of 66|was named player of the year
ended the losing streak|set a season best in the 100 metres|won the stage|dropped to third place
retired from the sport|rejoined the team for the playoffs|returned to the pitch after surgery
drew 2-2 with the rivals|was sent off with a red card|qualified for the tournament
""",
    "Business": """
reported higher quarterly profits|fell 4 percent in early trading|agreed to buy its rival
filed for bankruptcy protection|raised interest rates|cut 2,000 jobs|issued a profit warning
rose to a record high|launched a takeover bid|announced a merger worth 3 billion dollars
lowered its sales forecast|sold its stake in the company|posted a net loss|increased the dividend
slipped on inflation fears|approved the acquisition|was fined for accounting fraud|cut costs
beat earnings expectations|closed three factories|borrowed money from creditors|hit a six month low
raised its prices|opened lower on Wall Street|reduced the budget deficit|settled the lawsuit with investors
slowed economic growth|went public with a share offering|restructured its debt|boosted revenue
dropped after weak retail sales|gained on strong demand|renegotiated the wage deal
""",
    "Sci/Tech": """
discovered a distant planet|released a security patch|launched a satellite into orbit
unveiled a faster processor|infected thousands of computers|found a gene linked to memory
mapped the human genome|landed on the surface of mars|fixed a flaw in the browser
developed a new programming language|detected signals from a black hole|trained a model on text
introduced a new version of the software|stole passwords from a database|photographed the rings of saturn
built a quantum computer|found fossils of an ancient species|tested a vaccine in the laboratory
blocked spam and spyware|upgraded the wireless network|downloaded music over the internet
measured the melting of the ice sheet|wrote code for the kernel|docked with the space station
designed a tiny sensor|cloned a mouse|encrypted the data|published the source code online
observed a supernova|learned to recognize speech|shipped a handheld device|crashed the web server
studied the brain cells of rats
""",
}
DETAILS = {
    "World": """
at least 20 people were wounded|the vote was overseen by observers|violence has continued for months
the united nations called for calm|the capital was under curfew|talks will resume next week
a spokesman for the ministry blamed rebels|thousands marched through the streets|the death toll rose
human rights groups protested|the ceasefire did not hold|the war has lasted for years
""",
    "Sports": """
it was the third win of the season|the match was watched by 40,000 fans|the final is on sunday
the coach praised the players|the team plays again on saturday|the crowd cheered at the stadium
he scored his tenth goal|the game went into extra time|the league will decide on the appeal
it was the first medal at the olympics|the injury ended the season|both teams wanted the trophy
""",
    "Business": """
analysts had expected earnings of 40 cents a share|the stock closed lower|the deal needs approval
sales rose in the last quarter|the company employs 5,000 people|markets reacted nervously
the price of oil reached 50 dollars a barrel|revenue grew by 8 percent|the board backed the offer
consumers are spending less|the economy is slowing|investors welcomed the news
""",
    "Sci/Tech": """
the results were published in the journal nature|users can download the update
the study used data from 300 volunteers|the software runs on linux and windows|the chip uses less power
the experiment took ten years|the flaw lets attackers read files|the mission will last two years
the technology could reach homes soon|the code is free to use|the device connects to the internet
the telescope is in orbit
""",
}
OPENINGS = ["", "", "", "report : ", "update : ", "breaking news : ", "correction : "]
WHEN = "on monday|on tuesday|on friday|yesterday|today|last week|this year|in march|late on sunday"


_ACTORS = {topic: phrases(text) for topic, text in ACTORS.items()}
_ACTIONS = {topic: phrases(text) for topic, text in ACTIONS.items()}
_DETAILS = {topic: phrases(text) for topic, text in DETAILS.items()}
_WHEN = phrases(WHEN)


def item(rng: random.Random) -> Example[str]:
    """A headline, a sentence, or a headline with a description."""
    topic = rng.choice(TOPICS)
    actor, action = rng.choice(_ACTORS[topic]), rng.choice(_ACTIONS[topic])
    form = rng.choice([_sentence, _headline, _headline_and_detail, _fragment])
    text = rng.choice(OPENINGS) + form(rng, topic, actor, action)
    return Example(text[0].upper() + text[1:], topic, (f"{actor} {action}",))


def _sentence(rng: random.Random, topic: str, actor: str, action: str) -> str:
    subject = rng.choice(
        [f"the {actor}", f"{_somebody(rng)} 's {actor}", f"the {actor} in {_place(rng)}",
         f"a {actor} from {_place(rng)}", f"{_somebody(rng)} said the {actor}"]
    )  # fmt: skip
    return f"{subject} {action} {rng.choice(_WHEN)}."


def _headline(rng: random.Random, topic: str, actor: str, action: str) -> str:
    place = rng.choice([f" in {_place(rng)}", "", f", says {_somebody(rng)}"])
    return f"{actor} {_shortened(rng, action)}{place}"


def _headline_and_detail(rng: random.Random, topic: str, actor: str, action: str) -> str:
    source = rng.choice(["", "reuters - ", "ap - ", f"{_place(rng)} ( ap ) - ", "afp - "])
    first = _sentence(rng, topic, actor, action)
    return f"{source}{first} {rng.choice(_DETAILS[topic])}."


def _fragment(rng: random.Random, topic: str, actor: str, action: str) -> str:
    """A part of a story: the action with an unspecified actor, or the actor with a simple verb."""
    if rng.random() < 0.5:
        return f"{_somebody(rng)} {action} {rng.choice(_WHEN)}"
    verb = rng.choice(["talked about", "waited for", "surprised", "disappointed", "praised", "met"])
    return f"{rng.choice(_ACTORS[topic])} {verb} the {actor} {rng.choice(_WHEN)}"


def _shortened(rng: random.Random, action: str) -> str:
    """The text without articles, as in headlines."""
    return re.sub(r"\b(the|a|an|its) ", "", action) if rng.random() < 0.5 else action


def _somebody(rng: random.Random) -> str:
    pick = rng.randrange(4)
    if pick == 0:
        return f"{names.first_name(rng)} {names.surname(rng)}"
    return [names.surname, names.company, names.city][pick - 1](rng)


def _place(rng: random.Random) -> str:
    return rng.choice([names.city(rng), rng.choice(names.COUNTRIES)])
