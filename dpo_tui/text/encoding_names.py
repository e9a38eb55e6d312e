"""Names of the encodings of text files."""

import codecs

# Python also calls transformations and forms of text encodings that no file is in.
_NO_FILES = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "rot13", "rot-13", "unicode-escape", "undefined", "utf-7"}
)


def is_text_encoding(name: str) -> bool:
    """Whether a name is that of an encoding for files of text, such as ``gb18030``."""
    try:
        codec = codecs.lookup(name.strip())
        # Codecs between bytes, such as base64, raise for text.
        return codec.name not in _NO_FILES and codec.decode(codec.encode("a\n")[0])[0] == "a\n"
    except (LookupError, ValueError, TypeError):
        return False
