"""Weights of a model in its files and in memory: names and layouts, by the rules with which transformers loads it.

For some families the two differ: published Mixtral has a tensor for each expert, and in memory one parameter holds all
experts of a layer; Gemma 3 has other prefixes. transformers can apply its rules to one group of tensors at a time, in
both directions, so that nothing here needs the whole model.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)

from dpo_tui.errors import TrainingError
from dpo_tui.train.export.adapted_layers import UNMERGED


@dataclass(frozen=True)
class WeightGroup:
    """Tensors of a model's files that become weights in memory together.

    Attributes:
        stored: names in the files, in the order in which they are converted.
        patterns: for each of them, the pattern of transformers that it matches.
        key: the name that transformers gives the group: in memory, of its first weight, with ``*`` for a list's index.
        converter: transformers' rule; None where one tensor is loaded as it is, perhaps under another name.
    """

    stored: tuple[str, ...]
    patterns: tuple[str, ...]
    key: str
    converter: Any = None


class WeightConversion:
    """Groups of the tensors of a model's files, and their conversion.

    Args:
        model: the model on the meta device.
        shapes: of all tensors in the files, by name.

    Attributes:
        names: of the weights in memory that each group becomes.
    """

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        self._model = model
        rules = get_model_conversion_mapping(model)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
        in_memory = model.state_dict()
        found: dict[str, list[tuple[str, str]]] = {}
        group_rules: dict[str, Any] = {}
        # transformers converts in this order, in which expert 10 follows expert 9.
        for name in sorted(shapes, key=dot_natural_key):
            options = (name, model.base_model_prefix, in_memory)
            key, pattern = _renamed(*options, renamings, converters)
            # A renaming rule may match a name that is right as it is, in files that were saved under the names in
            # memory.
            if key not in in_memory and name in in_memory:
                key, pattern = _renamed(*options, [], [])
            found.setdefault(key, []).append((name, pattern or name))
            if pattern is not None:
                group_rules[key] = by_pattern[pattern]
        # What `revert_weight_conversion` reads: the rules that these files needed.
        model._weight_conversions = [rule for rule in rules if rule.was_used()]
        self._groups = {
            name: WeightGroup(
                tuple(stored_name for stored_name, _ in members),
                tuple(pattern for _, pattern in members),
                key,
                group_rules.get(key),
            )
            for key, members in found.items()
            for name, _ in members
        }
        # Converted on the meta device: names follow from shapes, and nothing is read.
        self.names: dict[WeightGroup, tuple[str, ...]] = {
            group: tuple(self.load(group, {name: torch.empty(shapes[name], device="meta") for name in group.stored}))
            for group in set(self._groups.values())
        }

    @property
    def in_memory(self) -> set[str]:
        """Names of all weights in memory that the files hold."""
        return {name for names in self.names.values() for name in names}

    def group_of(self, stored: str) -> WeightGroup:
        """Return the group of a tensor in the files."""
        return self._groups[stored]

    def load(self, group: WeightGroup, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights in memory that the tensors of a group become, by name."""
        if group.converter is None:
            return {group.key: tensors[group.stored[0]]}
        # A copy for each group, as transformers makes when it loads: a converter keeps the names that it has collected.
        converter = deepcopy(group.converter)
        for name, pattern in zip(group.stored, group.patterns, strict=True):
            converter.add_tensor(group.key, name, pattern, tensors[name])
        loaded = converter.convert(group.key, model=self._model, config=self._model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in loaded.items()}

    def save(self, group: WeightGroup, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors for the files that the weights in memory of a group become, by name.

        Raises:
            TrainingError: transformers would save them under other names than those in the files.
        """
        saved = self.stored_as(weights)
        prefix = f"{self._model.base_model_prefix}."
        if set(saved) != set(group.stored):
            # transformers adds the prefix where files leave it out, and does not remove it again.
            saved = {name.removeprefix(prefix): tensor for name, tensor in saved.items()}
        if set(saved) != set(group.stored):
            raise TrainingError(
                f"transformers loads {group.stored[0]} and others as {group.key}, and would save that as "
                f"{min(saved, default='nothing')}: such a model cannot be merged shard by shard",
                hint=UNMERGED,
            )
        return saved

    def stored_as(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights in memory as transformers saves them."""
        saved: dict[str, torch.Tensor] = revert_weight_conversion(self._model, weights)
        return saved


def _renamed(
    name: str, prefix: str, in_memory: Mapping[str, torch.Tensor], renamings: list[Any], converters: list[Any]
) -> tuple[str, str | None]:
    key, pattern = rename_source_key(name, renamings, converters, prefix, in_memory)
    return str(key), pattern
