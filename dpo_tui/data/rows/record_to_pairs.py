"""One record in, the turns of its preference pairs out; the reader, the scan and the app's row view all use this.

The modules in :mod:`dpo_tui.data.rows.shapes` say which columns hold the prompt and the answers, ``answer_columns`` for
columns such as chosen and rejected; :mod:`dpo_tui.data.rows.column_shapes` tries them in order. What the values are
(text, chat messages, a whole transcript) is decided here and in :mod:`dpo_tui.data.rows.prompt_and_answers`, value by
value, so every shape works with every kind of value.
"""

from collections import Counter
from typing import Any

from dpo_tui.data.pairs.labelled_answer import LabelledTurns, labelled_pair
from dpo_tui.data.pairs.pair import Message, Turns, Unreadable, reason_unusable
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, UnclearColumnError, bind
from dpo_tui.data.rows.column_use import ColumnUse
from dpo_tui.data.rows.label_values import reason_without_verdict
from dpo_tui.data.rows.messages import decoded_messages, is_messages, json_type_name, parse_cell
from dpo_tui.data.rows.prompt_and_answers import separated, text_or_messages, tools_of
from dpo_tui.data.rows.text_lists import conversations_of, may_be_turns
from dpo_tui.data.rows.transcript import is_transcript, parse_prompt

# How many different sets of columns are remembered. Rows with endless new columns would otherwise fill the memory.
_BINDINGS_KEPT = 256


class Recogniser:
    """Finds the format of records, remembers it for each set of columns, and counts the formats it found.

    Args:
        mapping: column names that the user set.
        cells: values come from a table without types (CSV), so that text may hold JSON.

    Attributes:
        formats: pairs found in each format.
        evidence: for each format, the column that holds each part of a pair, to be shown to the user.
        notes: how columns were read and what was left out of rows, in words, with the number of rows.
        unclear: contradictions between rows that make all of them doubtful, in words, with the number of rows.
        columns: which columns are read and which are not.
    """

    def __init__(self, mapping: ColumnMapping | None = None, *, cells: bool = False) -> None:
        self.mapping = mapping or ColumnMapping()
        self.cells = cells
        self.formats: Counter[str] = Counter()
        self.evidence: dict[str, dict[str, str]] = {}
        self.notes: Counter[str] = Counter()
        self.unclear: Counter[str] = Counter()
        self.columns = ColumnUse()
        self._bindings: dict[tuple[str, ...], Binding] = {}
        self._verdict_numbers: dict[str, set[float]] = {}

    @property
    def bindings_held(self) -> int:
        """How many sets of columns are remembered."""
        return len(self._bindings)

    def only_columns(self, record: Record) -> tuple[str, str, str] | None:
        """The prompt, chosen and rejected columns, if no other column of such records matters.

        The scan reads rows of that kind a column at a time, without a call of :meth:`pairs` for each. Rows that one of
        :meth:`tie_columns` calls a tie are the exception.
        """
        if self.cells:
            return None
        try:
            return self._binding(record).only_columns
        except Unreadable:
            return None

    def tie_columns(self, record: Record) -> tuple[str, ...]:
        """Columns of such records that may call a row a tie."""
        return self._binding(record).tie_columns

    def alike_columns(self, record: Record) -> dict[str, str] | None:
        """The column of each part of a pair, if records with these columns are read alike, see `Binding.alike`."""
        try:
            binding = self._binding(record)
        except Unreadable:
            return None
        return binding.columns if binding.alike else None

    def count_rows(self, record: Record, count: int, format_name: str = "standard") -> None:
        """Count rows like a record that were read by their columns, as if each had gone through :meth:`pairs`."""
        if count:
            binding = self._binding(self._with_decoded_cells(record))
            self.formats[format_name] += count
            self.evidence.setdefault(format_name, binding.columns)

    def pairs(self, record: Any) -> list[Turns]:
        """The pairs of one record; a ranking of k answers gives up to k(k-1)/2.

        Raises:
            Unreadable: the record is no object, or has no pair in it; the reason names what is missing.
        """
        record = self._with_decoded_cells(record)
        return self._pairs(record, self._binding(record))

    def answers(self, record: Any) -> list[LabelledTurns]:
        """The labelled answers of one record: its one answer with the verdict on it, or each answer of its pairs.

        Raises:
            Unreadable: the record has neither, or a value that cannot be read.
        """
        record = self._with_decoded_cells(record)
        binding = self._binding(record)
        if binding.read_answer is None:
            if binding.shape == "incomplete":
                raise reason_without_verdict(record, self.mapping)
            return self._answers_of_pairs(self._pairs(record, binding))
        try:
            raw = binding.read_answer(record)
            self._compare_verdicts(binding.columns["label"], raw.number)
        except UnclearColumnError as problem:
            self.unclear[problem.message] += 1
            raise
        # Read as a pair of the answer with itself, so that every kind of value is read as in pairs.
        pair = RawPair(raw.prompt, raw.completion, raw.completion, raw.system, raw.tools, prefix=raw.prefix)
        turns = _turns_of(_with_decoded_messages(pair))
        name = f"labelled answers, {_format_of(pair)}"
        self.formats[name] += 1
        self.evidence.setdefault(name, binding.columns)
        return [LabelledTurns(turns, raw.desirable)]

    def _answers_of_pairs(self, pairs: list[Turns]) -> list[LabelledTurns]:
        reasons = [reason_unusable(turns) for turns in pairs]
        usable = [turns for turns, reason in zip(pairs, reasons, strict=True) if reason is None]
        if not usable:
            raise next(reason for reason in reasons if reason is not None).fresh()
        answers, left_out = labelled_pair(usable)
        self.notes["each answer of a pair is a labelled answer, the better one desirable"] += 1
        if left_out:
            self.notes["answers in the middle of a ranking are left out: better than one, worse than another"] += 1
        if not answers:
            raise Unreadable("tie", "every answer is better than one and worse than another")
        return answers

    def _compare_verdicts(self, column: str, number: float | None) -> None:
        """Take note of a verdict that is a number.

        Raises:
            UnclearColumnError: the column has 0 and −1, of which only one can mean an undesirable answer.
        """
        if number is None:
            return
        seen = self._verdict_numbers.setdefault(column, set())
        seen.add(number)
        if {0.0, -1.0} <= seen:
            raise UnclearColumnError(
                f"`{column}` has 0 and -1: one of them may mean neither good nor bad. Leave those rows out, or set "
                "rating_threshold"
            )

    def _pairs(self, record: Record, binding: Binding) -> list[Turns]:
        pairs = []
        notes = dict.fromkeys(binding.notes)
        try:
            for found in binding.read(record):
                raw = _with_decoded_messages(found)
                pairs.append(_turns_of(raw))
                name = _format_of(raw) if binding.shape == "columns" else binding.shape
                self.formats[name] += 1
                if name not in self.evidence:
                    self.evidence[name] = binding.columns
                if raw.note:
                    notes[raw.note] = None
        except UnclearColumnError as problem:
            self.unclear[problem.message] += 1
            raise
        if notes:
            self.notes.update(notes.keys())
        return pairs

    def _with_decoded_cells(self, record: Any) -> Record:
        if type(record) is not dict:
            raise Unreadable("missing-field", f"the row is {json_type_name(record)}, not an object with columns")
        if not self.cells:
            return record
        return {key: _decoded_cell(value) if isinstance(value, str) else value for key, value in record.items()}

    def _binding(self, record: Record) -> Binding:
        names = tuple(record)
        binding = self._bindings.get(names)
        if binding is None:
            binding = bind(record, self.mapping)
            if binding.used:
                self.columns.add(record, binding.used)
            # Other shapes look at values (an `output` of two answers), which may differ in the next row.
            if binding.by_names and len(self._bindings) < _BINDINGS_KEPT:
                self._bindings[names] = binding
        return binding


def _decoded_cell(cell: str) -> Any:
    """Decode a cell of a table that holds messages or texts; any other JSON may well be the text of an answer."""
    value = parse_cell(cell)
    if isinstance(value, dict):
        return value if is_messages([value]) or isinstance(value.get("messages"), list) else cell
    if isinstance(value, list):
        return value if is_messages(value) or all(isinstance(one, str) for one in value) else cell
    return cell


def _with_decoded_messages(raw: RawPair) -> RawPair:
    """Decode prompt and answers that are lists of messages in JSON text, which occur in every kind of file."""
    prompt, chosen, rejected = map(decoded_messages, raw[:3])
    if prompt is raw.prompt and chosen is raw.chosen and rejected is raw.rejected:
        if may_be_turns(prompt) or (type(prompt) is list and prompt and type(prompt[0]) is str):
            turns = conversations_of(prompt, (chosen, rejected), certain=False)
            if turns is not None:
                note = "prompt and answers are read as lists of turns"
                return raw._replace(prompt=turns[0], chosen=turns[1], rejected=turns[2], note=note)
        return raw
    return raw._replace(prompt=prompt, chosen=chosen, rejected=rejected)


def _turns_of(raw: RawPair) -> Turns:
    return _turns_without_prefix(raw) if raw.prefix is None else _with_prefix(_turns_without_prefix(raw), raw.prefix)


def _turns_without_prefix(raw: RawPair) -> Turns:
    prompt, chosen, rejected = raw.prompt, raw.chosen, raw.rejected
    # The common case first: three texts. It runs for every row of most datasets.
    if type(prompt) is str and type(chosen) is str and type(rejected) is str and not raw.system and not raw.tools:
        if not is_transcript(prompt):
            return Turns(prompt, chosen, rejected, None, None, raw.margin)
        return Turns(parse_prompt(prompt), chosen.strip(), rejected.strip(), None, None, raw.margin)
    system = raw.system if isinstance(raw.system, str) and raw.system.strip() else None
    turns = separated(
        text_or_messages(prompt, "prompt"),
        text_or_messages(chosen, "chosen"),
        text_or_messages(rejected, "rejected"),
    )
    # A system message inside the prompt goes before the system column.
    if system and not isinstance(turns.prompt, str) and turns.prompt and turns.prompt[0]["role"] == "system":
        system = None
    return Turns(*turns[:3], system, tools_of(raw.tools), raw.margin)


def _with_prefix(turns: Turns, prefix: str) -> Turns:
    """The pair whose answers both begin with a prefix, character for character; unless both begin with it already.

    The prefix has the same log-probability in both answers, so that it adds nothing to their difference.
    """
    if all(_first_text(answer).startswith(prefix) for answer in (turns.chosen, turns.rejected)):
        return turns
    return turns._replace(chosen=_prefixed(turns.chosen, prefix), rejected=_prefixed(turns.rejected, prefix))


def _first_text(answer: str | list[Message]) -> str:
    return answer if isinstance(answer, str) else str(answer[0].get("content") or "") if answer else ""


def _prefixed(answer: str | list[Message], prefix: str) -> str | list[Message]:
    if isinstance(answer, str):
        return prefix + answer if answer and not answer.isspace() else answer
    if not answer or not (answer[0].get("tool_calls") or _first_text(answer).strip()):
        return answer  # an empty answer stays one, and is left out
    return [{**answer[0], "content": prefix + str(answer[0].get("content") or "")}, *answer[1:]]


def _format_of(raw: RawPair) -> str:
    """Name the format of a pair's values, as the report prints it; the names are TRL's where it has one."""
    prompt, chosen = raw.prompt, raw.chosen
    if prompt is None or prompt == []:
        if isinstance(chosen, str):
            return "transcripts with an implicit prompt"
        return "conversational, implicit prompt"
    if isinstance(prompt, list):
        if prompt and isinstance(prompt[0], dict) and "from" in prompt[0]:
            return "ShareGPT ranking"
        return "conversational"
    if isinstance(chosen, str):
        return "transcript prompt" if isinstance(prompt, str) and is_transcript(prompt) else "standard"
    return "text prompt, message answers"
