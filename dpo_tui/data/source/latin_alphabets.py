"""The letters beyond ASCII of languages in Latin script: which of them occur together, and how often.

Western and Central European encodings give a letter to almost every byte, so any text is valid in all of them. But no
language has, say, č beside ę. The shares of words with such letters are a third to a half of those in running text.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """The letters of a language beyond ASCII.

    Args:
        letters: all of them in lower case, with those of frequent foreign words.
        frequent: those that are in any text of some length; empty where nothing is excluded by their absence.
        words: share of words with such letters that a text has at least.
        most: the share that it has at most.
    """

    letters: str
    frequent: str = ""
    words: float = 0.0
    most: float = 1.0

    def share(self, found: list[str], accented_words: float, few: int) -> float:
        """The share of some letters that the language has; 0 if they cannot be a text in it.

        Args:
            found: the letters beyond ASCII of a text, in lower case.
            accented_words: the share of its words that have one.
            few: number of letters from which frequent ones must be among them.
        """
        if not self.words <= accented_words <= self.most:
            return 0.0
        if self.frequent and len(found) >= few and sum(letter in found for letter in self.frequent) < 2:  # noqa: PLR2004
            return 0.0
        return sum(letter in self.letters for letter in found) / len(found) if found else 1.0


LANGUAGES = {
    "western": (
        Language("àâæçèéêëîïôœùûüÿñö"),  # French
        Language("äöüßéàèêçñ"),  # German
        Language("áéíñóúüçàèª"),  # Spanish
        Language("áâãàçéêíóôõúüñ"),  # Portuguese
        Language("àèéìíîòóùú"),  # Italian
        Language("éëïóöüèáêàçí"),  # Dutch
        Language("åäöéüàš"),  # Swedish, Finnish
        Language("åæøéòôóèêäöü"),  # Danish, Norwegian
        Language("áðéíóúýþæö"),  # Icelandic
        Language("àçèéíïòóúüñ"),  # Catalan
        Language("äöõüšž"),  # Estonian
        Language("éèêëïîçñöüäáíóàâåôøæ", most=0.15),  # English, by its foreign words and names
    ),
    "central": (
        Language("ąćęłńóśźżéöü", "ąęłóśż", 0.1),  # Polish
        Language("áčďéěíňóřšťúůýžöüä", "áíěšřéč", 0.2),  # Czech
        Language("áäčďéíĺľňóôŕšťúýžöü", "áíčšžýéľ", 0.2),  # Slovak
        Language("áéíóöőúüűä", "áéöőóí", 0.2),  # Hungarian
        Language("čćđšžéöü", "čšž", 0.06),  # Croatian, Slovene
        Language("ăâîşţșțéö", "ăîşţâșț", 0.08),  # Romanian
    ),
    "turkish": (Language("çğıi̇öşüâîûé", "ışğüçö", 0.15),),
    "baltic": (
        Language("ąčęėįšųūžéö", "ėšž", 0.1),  # Lithuanian
        Language("āčēģīķļņšūžö", "āīēš", 0.15),  # Latvian
        Language("äöõüšž", "äõöü", 0.1),  # Estonian
    ),
}
"""The languages of each group of encodings. Their letters are those of the national alphabets (Unicode CLDR's main and
auxiliary exemplars, of the latter the usual ones)."""
