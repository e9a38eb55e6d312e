"""One record in, the turns of its preference pairs out; the reader, the scan and the app's row view all use this.

:mod:`dpo_tui.data.rows.column_shapes` says which columns hold the prompt and the answers. What the values are (text,
chat messages, a whole transcript) is decided here, value by value, so every shape works with every kind of value.
"""

from collections import Counter
from typing import Any

from dpo_tui.data.pairs.pair import Message, Turns, Unreadable
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, UnclearColumnError, bind
from dpo_tui.data.rows.column_use import ColumnUse
from dpo_tui.data.rows.messages import decoded_messages, is_messages, json_type_name, messages_of, parse_cell
from dpo_tui.data.rows.text_lists import conversations_of, may_be_turns
from dpo_tui.data.rows.transcript import is_transcript, parse_prompt, split_transcripts

# The roles that begin a conversation.
_OPENING_ROLES = frozenset({"user", "system", "developer"})
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

    def count_rows(self, record: Record, count: int) -> None:
        """Count rows like a record that were read by their columns, as if each had gone through :meth:`pairs`."""
        if count:
            binding = self._binding(record)
            self.formats["standard"] += count
            self.evidence.setdefault("standard", binding.columns)

    def pairs(self, record: Any) -> list[Turns]:
        """The pairs of one record; a ranking of k answers gives up to k(k-1)/2.

        Raises:
            Unreadable: the record is no object, or has no pair in it; the reason names what is missing.
        """
        if type(record) is not dict:
            raise Unreadable("missing-field", f"the row is {json_type_name(record)}, not an object with columns")
        if self.cells:
            record = {key: parse_cell(value) if isinstance(value, str) else value for key, value in record.items()}
        binding = self._binding(record)
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
    turns = _normalised(
        _text_or_messages(prompt, "prompt"),
        _text_or_messages(chosen, "chosen"),
        _text_or_messages(rejected, "rejected"),
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
    if not answer:
        return answer
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


def _normalised(
    prompt: str | list[Message] | None, chosen: str | list[Message] | None, rejected: str | list[Message] | None
) -> Turns:
    """Separate the prompt from answers that repeat it, and make both answers the same kind of value."""
    if chosen is None or rejected is None:
        lacking = "`chosen`" if chosen is None else "`rejected`"
        raise Unreadable("missing-field", f"{lacking} is missing or null")
    if isinstance(chosen, list) != isinstance(rejected, list):  # one is text, the other messages: both become messages
        chosen = [{"role": "assistant", "content": chosen}] if isinstance(chosen, str) else chosen
        rejected = [{"role": "assistant", "content": rejected}] if isinstance(rejected, str) else rejected
    if prompt is None or prompt == []:
        return _with_implicit_prompt(chosen, rejected)
    if isinstance(prompt, str) and is_transcript(prompt):
        prompt = parse_prompt(prompt)
    if isinstance(chosen, str) or isinstance(rejected, str):
        if isinstance(prompt, list) and isinstance(chosen, str):
            prompt = _without_ending(prompt, [{"role": "assistant", "content": chosen}])
        return Turns(prompt, chosen, rejected)
    return _with_message_answers(prompt, chosen, rejected)


def _with_implicit_prompt(chosen: str | list[Message], rejected: str | list[Message]) -> Turns:
    """Take the messages that both answers begin with as the prompt: TRL's "implicit prompt"."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not is_transcript(chosen):
            raise Unreadable("missing-field", "there is no prompt column, and the answers are no transcripts")
        return Turns(*split_transcripts(chosen, rejected))
    assert isinstance(chosen, list)  # noqa: S101 (the caller made both the same kind)
    assert isinstance(rejected, list)  # noqa: S101
    shared = _repeated_length(chosen, rejected)
    # Each answer keeps at least one message, also when one conversation is the beginning of the other.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    if shared <= 0:
        raise Unreadable("missing-field", "there is no prompt: chosen and rejected do not begin with the same message")
    return Turns(chosen[:shared], chosen[shared:], rejected[shared:])


def _with_message_answers(prompt: str | list[Message], chosen: list[Message], rejected: list[Message]) -> Turns:
    """Leave out the prompt from answers that repeat it, as UltraFeedback's do; others begin with the assistant.

    What is called the prompt may itself go on to an answer, as the ``messages`` column of UltraFeedback does. The
    prompt is then the part of it with which both answers begin.
    """
    if isinstance(prompt, str):
        repeats = chosen and rejected and chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant"
        return _with_implicit_prompt(chosen, rejected) if repeats else Turns(prompt, chosen, rejected)
    shared = min(_repeated_length(prompt, chosen), _repeated_length(prompt, rejected))
    # Each answer keeps at least one message.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    start = max(shared, 0)
    # Where a turn of the user comes next, the prompt differs from the conversations before their answers begin.
    if all(answer[start:] and answer[start]["role"] in _OPENING_ROLES for answer in (chosen, rejected)):
        return _with_implicit_prompt(chosen, rejected)
    if shared > 0:
        return Turns(prompt[:shared], chosen[shared:], rejected[shared:])
    return Turns(_without_ending(prompt, chosen), chosen, rejected)


def _without_ending(prompt: list[Message], answer: list[Message]) -> list[Message]:
    """The prompt without an answer that it ends with: the model would read what it has to learn."""
    start = len(prompt) - len(answer)
    return (
        prompt[:start] if answer and start > 0 and _repeated_length(prompt[start:], answer) == len(answer) else prompt
    )


def _shared_length(left: list[Message], right: list[Message]) -> int:
    """How many messages two conversations have in common at their beginning."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _repeated_length(left: list[Message], right: list[Message]) -> int:
    """Like :func:`_shared_length`, of role, content and tool calls, whatever other keys the messages have."""
    return _shared_length([_essence(message) for message in left], [_essence(message) for message in right])


def _essence(message: Message) -> Message:
    return {key: message.get(key) for key in ("role", "content", "tool_calls")}


def _text_or_messages(value: Any, column: str) -> str | list[Message] | None:
    """Normalise the value of one column: text stays text, messages get ``role`` and ``content``."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            return messages_of(value["messages"], column)
        if "role" in value or "from" in value:
            return messages_of([value], column)
        if isinstance(value.get("content") or value.get("text"), str):
            return str(value.get("content") or value.get("text"))
    if isinstance(value, list):
        if not value:
            return None if column == "prompt" else []
        if is_messages(value):
            return messages_of(value, column)
        if len(value) == 1 and isinstance(value[0], str):
            return str(value[0])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # "2+2?" answered with 4: a CSV or JSON writer took the quotes off
    raise Unreadable("missing-field", f"`{column}` is {json_type_name(value)}, not text or messages")


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Function schemas for the chat template; some datasets keep them as JSON text."""
    if isinstance(value, str) and value.strip():
        import orjson

        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Unreadable("bad-json", "`tools` is text that is not JSON") from None
    if not value:
        return None
    if isinstance(value, list) and all(isinstance(tool, dict) for tool in value):
        return value
    raise Unreadable("missing-field", "`tools` is not a list of function schemas")
