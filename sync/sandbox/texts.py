"""The words of a made-up outdoor, garden and kitchen shop: what `generator` builds products from.

Everything here is invented for this sandbox. A noun has a German and a French form, so
that store views differ in a way a reader can see.
"""

from __future__ import annotations

from typing import NamedTuple


class Article(NamedTuple):
    """One kind of thing the shop sells.

    code        two letters that open its SKUs
    nouns       its name by language
    material    option ids of the multiselect `material`, as Commerce stores them
    pitch       how a sentence about it goes on: "The kettle …"
    """

    code: str
    nouns: dict[str, str]
    categories: tuple[int, ...]
    attribute_set_id: int
    material: str
    pitch: str


# code | English | German | French | categories (3 outdoor, 4 garden, 5 kitchen) | material | pitch
_TABLE = """
LN | Lantern | Laterne | Lanterne | 3,11 | 31,34 | throws a calm, even light over the whole table
TP | Tarp | Tarp | Bâche | 3,12 | 35 | keeps a sudden shower off the breakfast table
HM | Hammock | Hängematte | Hamac | 3,12 | 36,37 | holds two grown people and a sleepy dog
BX | Cool Box | Kühlbox | Glacière | 3,13 | 38 | keeps butter firm for a day & a half
ST | Camp Stove | Kocher | Réchaud | 3,13 | 31 | boils half a litre before the tent is up
RG | Picnic Rug | Picknickdecke | Plaid | 3,11 | 36,39 | stays dry underneath on wet grass
CH | Folding Chair | Klappstuhl | Chaise pliante | 3,11 | 31,36 | folds to the size of an umbrella
TR | Trowel | Pflanzkelle | Transplantoir | 4,21 | 32,33 | goes through clay without bending
WC | Watering Can | Gießkanne | Arrosoir | 4,21 | 31 | pours as gently as summer rain
SH | Shears | Gartenschere | Cisailles | 4,21 | 32 | cut thumb-thick branches in one go
PT | Planter | Pflanzkübel | Jardinière | 4,22 | 40 | survives a hard winter on the terrace
TL | Trellis | Rankgitter | Treillis | 4,22 | 33 | carries beans, peas and a climbing rose
BF | Bird Feeder | Futterhaus | Mangeoire | 4,23 | 33 | brings the finches close to the window
GL | Garden Gloves | Gartenhandschuhe | Gants | 4,21 | 37,41 | stop thorns & let your fingertips feel
KT | Kettle | Kessel | Bouilloire | 5,31 | 31,32 | sings when the water is ready
SK | Skillet | Pfanne | Poêle | 5,31 | 34 | gets better with every pancake
BB | Bread Box | Brotkasten | Boîte à pain | 5,32 | 31,33 | keeps a sourdough fresh until Thursday
ML | Pepper Mill | Pfeffermühle | Moulin à poivre | 5,33 | 33 | grinds from dust to coarse with one turn
TW | Tea Towel | Geschirrtuch | Torchon | 5,33 | 36,37 | dries glasses without a streak
BW | Mixing Bowl | Rührschüssel | Saladier | 5,32 | 40 | sits still while you whisk
CB | Cutting Board | Schneidebrett | Planche à découper | 5,33 | 33 | is kind to knives and easy to oil
JG | Jug | Krug | Pichet | 5,32 | 40,42 | never drips, which is harder than it sounds
"""


def _article(line: str) -> Article:
    code, english, german, french, categories, material, pitch = (cell.strip() for cell in line.split("|"))
    numbers = tuple(int(number) for number in categories.split(","))
    nouns = {"en": english, "de": german, "fr": french}
    return Article(code, nouns, numbers, 9 + numbers[0] % 4, material, pitch)


ARTICLES = tuple(_article(line) for line in _TABLE.strip().splitlines())

SERIES = (
    "Tarn", "Birchway", "Skerry", "Morrow", "Fjällröd", "Otter & Reed", "Lindgarten", "Copperfinch",
    "Hollin", "Saltmarsh", "Vérane", "Thistledown", "Owlet", "Bramblecote", "Kestrel", "Nordweg",
    "Pebblebrook", "Sycamore", "Windhover", "Ålesund", "Rookery", "Halcyon", "Mossbank", "Juniper Row",
    "Ferrybridge", "Quillon", "Larkrise", "Émile", "Greywether", "Sunnyside", "Peverell", "Drumlin",
)  # fmt: skip

FINISHES = (
    "Enamel", "Classic", "Compact", "Family", "Light", "Workshop", "Heritage", "Everyday",
    "Weatherproof", "Slim", "Garden", "Weekend", "Long", "Mini", "Double", "Original",
)  # fmt: skip

COLOURS = (("Moss", "91"), ("Slate", "92"), ("Clay", "93"), ("Cream", "94"), ("Ink", "95"), ("Rust", "96"))
SIZES = (("S", "81"), ("M", "82"), ("L", "83"), ("XL", "84"))

FEATURES = (
    "<li>Made to be repaired: every part can be ordered one by one.<\\/li>",
    "<li>Packed without plastic, in a box that folds flat.<\\/li>",
    "<li>Tested for 5,000 openings &amp; closings.<\\/li>",
    "<li>Comes with a cotton bag and a card with care advice.<\\/li>",
    "<li>Fits a standard shelf: 28 &times; 19 cm.<\\/li>",
    "<li>Ten years of warranty on seams and hinges.<\\/li>",
    "<li>Dishwasher safe up to 60 \\u00b0C.<\\/li>",
    "<li>Weighs less than a jar of honey.<\\/li>",
)
