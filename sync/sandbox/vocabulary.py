"""What the made-up shop's numbers mean: attributes, their options, attribute sets and categories.

Everything here is invented for this sandbox; codes and ids are those that `documents` and `texts` use.
"""

from __future__ import annotations

from typing import NamedTuple

from sync.sandbox.texts import COLOURS, SIZES

ROOT_CATALOG, DEFAULT_CATEGORY = 1, 2
SETS = {4: "Default", 9: "Garden", 10: "Kitchen", 11: "Gift", 12: "Outdoor"}


class Made(NamedTuple):
    """One attribute of the shop; `options` names its entry in `OPTIONS`."""

    attribute_id: int
    code: str
    frontend_input: str | None
    scope: str
    backend_type: str
    label: str
    options: str


# id | code | input | scope | backend | label | options
_ATTRIBUTES = """
73 | name | text | store | varchar | Name |
74 | sku | text | global | static | Article number |
75 | description | textarea | store | text | Long text |
76 | short_description | textarea | store | text | Short text |
77 | price | price | website | decimal | Price |
78 | special_price | price | website | decimal | Offer price |
79 | special_from_date | date | website | datetime | Offer starts |
80 | special_to_date | date | website | datetime | Offer ends |
81 | cost | price | website | decimal | Purchase price |
82 | weight | weight | global | decimal | Weight |
83 | manufacturer | select | global | int | Workshop | manufacturer
84 | meta_title | text | store | varchar | Title for search engines |
87 | image | media_image | store | varchar | Main picture |
88 | small_image | media_image | store | varchar | Small picture |
89 | thumbnail | media_image | store | varchar | Thumbnail |
92 | tier_price | text | website | decimal | Price by quantity |
93 | color | select | global | int | Colour | color
97 | status | select | website | int | For sale | status
99 | visibility | select | store | int | Where it shows | visibility
105 | category_ids | text | global | static | Categories |
106 | options_container | select | store | varchar | Place of the choices | options_container
107 | required_options | text | global | static | |
108 | has_options | text | global | static | |
112 | created_at | date | global | static | |
113 | updated_at | date | global | static | |
121 | url_key | text | store | varchar | Address |
124 | msrp_display_actual_price_type | select | website | varchar | Shows the list price | list_price
125 | price_type | boolean | global | int | Price follows the parts |
126 | sku_type | boolean | global | int | Number follows the parts |
127 | weight_type | boolean | global | int | Weight follows the parts |
128 | price_view | select | global | int | Price shown as | price_view
129 | shipment_type | select | global | int | Parts are sent | shipment_type
130 | links_purchased_separately | | global | int | Downloads sold one by one |
132 | links_title | | store | varchar | Heading of the downloads |
134 | giftcard_amounts | price | website | decimal | Amounts |
135 | tax_class_id | select | website | int | Tax | tax_class_id
137 | material | multiselect | global | text | Material | material
142 | size | select | global | int | Size | size
147 | sale | boolean | global | int | In the sale | yes_no
149 | giftcard_type | select | global | int | Kind of gift card | giftcard_type
150 | allow_open_amount | boolean | global | int | Any amount | yes_no
"""

USER_DEFINED = frozenset({"cost", "manufacturer", "color", "material", "size", "sale"})

# Words of options and attributes in the languages that store views speak.
WORDS = {
    "de": {
        **{"Moss": "Moosgrün", "Slate": "Schiefer", "Clay": "Lehm", "Cream": "Creme", "Ink": "Tinte"},
        **{"Steel": "Stahl", "Oak": "Eiche", "Cotton": "Baumwolle", "Linen": "Leinen", "Wool": "Wolle"},
        **{"Stoneware": "Steinzeug", "Glass": "Glas", "Cast Iron": "Gusseisen", "Yes": "Ja", "No": "Nein"},
        **{"Colour": "Farbe", "Size": "Größe", "Outdoor": "Draußen", "Garden": "Garten", "Kitchen": "Küche"},
        **{"Tools": "Werkzeug", "Camp Furniture": "Campingmöbel", "Sale": "Angebote"},
    },
    "fr": {
        **{"Moss": "Mousse", "Slate": "Ardoise", "Clay": "Argile", "Cream": "Crème", "Ink": "Encre"},
        **{"Steel": "Acier", "Oak": "Chêne", "Cotton": "Coton", "Linen": "Lin", "Wool": "Laine"},
        **{"Stoneware": "Grès", "Glass": "Verre", "Cast Iron": "Fonte", "Yes": "Oui", "No": "Non"},
        **{"Colour": "Couleur", "Size": "Taille", "Outdoor": "Plein air", "Garden": "Jardin"},
        **{"Kitchen": "Cuisine", "Tools": "Outils", "Camp Furniture": "Mobilier de camp", "Sale": "Soldes"},
    },
}

# name -> (label, value) in order. The option 38 of `material`, which cool boxes have, was deleted long ago.
OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "manufacturer": (),
    "color": COLOURS,
    "size": SIZES,
    "material": (
        ("Steel", "31"),
        ("Carbon Steel", "32"),
        ("Oak", "33"),
        ("Cast Iron", "34"),
        ("Ripstop&reg; 40 g/m&sup2;", "35"),
        ("Cotton", "36"),
        ("Linen", "37"),
        ("Wool", "39"),
        ("Stoneware", "40"),
        ("Goat Leather", "41"),
        ("Glass", "42"),
    ),
    "status": (("For sale", "1"), ("Withdrawn", "2")),
    "visibility": (("Nowhere alone", "1"), ("In lists", "2"), ("In search", "3"), ("Everywhere", "4")),
    "options_container": (("Beside the picture", "container1"), ("Below the text", "container2")),
    "list_price": (("As configured", "0"), ("On request", "1"), ("In the basket", "2")),
    "price_view": (("From and to", "0"), ("From", "1")),
    "shipment_type": (("Together", "0"), ("One by one", "1")),
    "tax_class_id": (("Untaxed", "0"), ("Goods", "2")),
    "yes_no": (("Yes", "1"), ("No", "0")),
    "giftcard_type": (("By mail", "0"), ("In an envelope", "1"), ("Both", "2")),
}
TABLES = frozenset({"manufacturer", "color", "size", "material"})  # their options begin with a blank one

# id | parent | position | active | name: names repeat, and some are hostile to whoever joins them into a path
_CATEGORIES = """
2 | 1 | 1 | 1 | All Goods
3 | 2 | 1 | 1 | Outdoor
4 | 2 | 2 | 1 | Garden
5 | 2 | 3 | 1 | Kitchen
6 | 2 | 4 | 0 | Clearance
11 | 3 | 1 | 1 | Camp Furniture
12 | 3 | 2 | 1 | Tarps & Hammocks
13 | 3 | 3 | 1 | Cooking / Cooling
14 | 11 | 1 | 1 | Sale
21 | 4 | 1 | 1 | Tools
22 | 4 | 2 | 1 | Pots and Trellises
23 | 4 | 3 | 1 | <b>Birds</b> &amp; Bees
24 | 21 | 1 | 1 | Sale
31 | 5 | 1 | 1 | Pots and Pans
32 | 5 | 2 | 1 | Storage
33 | 5 | 3 | 1 | Tools
34 | 33 | 1 | 1 | Sale
"""


class MadeCategory(NamedTuple):
    category_id: int
    parent_id: int
    position: int
    is_active: bool
    name: str


def _attribute(line: str) -> Made:
    number, code, frontend_input, scope, backend, label, options = (cell.strip() for cell in line.split("|"))
    return Made(int(number), code, frontend_input or None, scope, backend, label, options)


def _category(line: str) -> MadeCategory:
    number, parent, position, is_active, name = (cell.strip() for cell in line.split("|"))
    return MadeCategory(int(number), int(parent), int(position), is_active == "1", name)


def _lines(table: str) -> list[str]:
    return [line if line.count("|") > 5 else f"{line} |" for line in table.strip().splitlines()]


ATTRIBUTES = tuple(_attribute(line) for line in _lines(_ATTRIBUTES))
CATEGORIES = tuple(_category(line) for line in _CATEGORIES.strip().splitlines())


def translated(text: str, view: str) -> str:
    """A word in the language of a store view, the word itself when there is none."""
    return WORDS.get(view[:2], {}).get(text, text)
