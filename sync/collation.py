"""Which texts Commerce takes for the same: SKUs, source codes and attribute codes.

Its database compares for filters, unique keys and `GET /products/{sku}`: case, accents and blanks at the end
do not count. Its price feeds compare by themselves: there accents count. Observed on Magento 2.4.7: `GGé`
finds `GGe`, `GGs` finds `GGß`, `GGtrail ` finds `GGtrail`; no feed has a price of `GGé`.
"""

from __future__ import annotations

import unicodedata


def collated(text: str) -> str:
    """The same text for all that Commerce's database takes for the same.

    >>> collated("ggÉ  ") == collated("GGe"), collated(" GGe") == collated("GGe")
    (True, False)
    """
    bare = text.rstrip(" ").lower().replace("ß", "s")
    if bare.isascii():
        return bare
    return "".join(sign for sign in unicodedata.normalize("NFD", bare) if not unicodedata.combining(sign))
