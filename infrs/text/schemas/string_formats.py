"""The values of `format` that the grammar compiler lacks, as patterns.

Each pattern matches only values of its format, and nearly all of them. Those of `idn-hostname` and `idn-email` match
the form only.
Source: JSON Schema 2020-12, Validation section 7.3.
"""

from __future__ import annotations

_HEX = "[0-9A-Fa-f]"
_PERCENT = f"%{_HEX}{{2}}"
_PLANES = "".join(f"{chr(plane << 16)}-{chr(plane << 16 | 0xFFFD)}" for plane in range(1, 14))
_OTHERS = f"\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef{_PLANES}"  # ucschar of RFC 3987, but for one plane of tags

_POINTER = "(?:/(?:[^/~]|~[01])*)*"


def _references(letters: str) -> tuple[str, str]:
    """Return a resource identifier and a reference with these characters and ASCII's (RFC 3986, RFC 3987).

    IPv6 addresses are left out.
    """
    plain = rf"[A-Za-z0-9._~!$&'()*+,;={letters}\-]|{_PERCENT}"
    char = f"(?:{plain}|[:@])"
    more = f"(?:/{char}*)*"
    host = f"//(?:(?:{plain}|:)*@)?(?:{plain})*(?::[0-9]*)?{more}"
    absolute = f"/(?:{char}+{more})?"
    scheme = r"[A-Za-z][A-Za-z0-9+.\-]*:"
    identifier = f"{scheme}(?:{host}|{absolute}|{char}+{more})?"
    relative = f"(?:{host}|{absolute}|(?:{plain}|@)+{more})?"
    rest = rf"(?:\?(?:{char}|[/?])*)?(?:#(?:{char}|[/?])*)?"
    return f"^(?:{identifier}){rest}$", f"^(?:{identifier}|{relative}){rest}$"


_LABELS = r"[0-9\p{Ll}\p{Lo}]+(?:[.\-][0-9\p{Ll}\p{Lo}]+)*"  # of RFC 5892, without its rules for some scripts
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_OTHERS}\-]+"
_NAME = f"(?:[A-Za-z0-9_]|{_PERCENT})+"
_VARIABLE = rf"{_NAME}(?:\.{_NAME})*(?:\*|:[1-9][0-9]{{0,3}})?"

PATTERNS = {
    "json-pointer": f"^{_POINTER}$",  # RFC 6901
    "relative-json-pointer": f"^(?:0|[1-9][0-9]*)(?:#|{_POINTER})$",
    "uri-reference": _references("")[1],
    "iri": _references(_OTHERS)[0],
    "iri-reference": _references(_OTHERS)[1],
    "uri-template": rf"^(?:[!#$&(-;=?-\[\]_a-z~{_OTHERS}]|{_PERCENT}|\{{[+#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*\}})*$",
    "idn-hostname": f"^{_LABELS}$",
    "idn-email": rf"^{_ATOM}(?:\.{_ATOM})*@{_LABELS}$",  # RFC 6531
}
