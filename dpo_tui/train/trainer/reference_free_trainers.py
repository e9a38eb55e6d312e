"""TRL's experimental ORPOTrainer and CPOTrainer (with SimPO's loss), on the rows and through the shortcuts of DPO.

Their losses and metrics are TRL's. What leads up to the losses is replaced by what DPOTrainer does, because in trl 1.16
the experimental trainers

- append the end token where a chat template ends otherwise (``<|im_end|>`` and a newline), so that the model would
  learn to say another end than it is asked for later;
- keep a prompt that alone fills ``max_length``, with an answer of no tokens, whose mean log-probability is NaN;
- make fp32 of every weight that is not quantised (``prepare_model_for_kbit_training``), and bf16 of others;
- project every position onto the vocabulary, and ignore activation offloading, ``router_aux_loss_coef`` and dropout
  that is no ``torch.nn.Dropout``.

Dimensions in names with a suffix: ``B`` pairs, ``N = 2B`` rows of a batch (chosen half first), ``L`` tokens of a row,
``S = L − 1`` predicted tokens.
"""

import contextlib
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow.compute
import torch
import trl.trainer.utils
from peft import PeftModel, get_peft_model
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.models import get_act_offloading_ctx_manager
from trl.trainer.dpo_trainer import DataCollatorForPreference

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.train.model.dropout_rates import disable_dropout
from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.lora_plus import LoraPlus
from dpo_tui.train.trainer.pair_rows import PairRows
from dpo_tui.train.trainer.sharded_state import ShardedState
from dpo_tui.train.trainer.shared_evaluation import SharedEvaluation
from dpo_tui.train.trainer.token_forms import ID_COLUMNS
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

_IGNORE_INDEX = -100
_FUSED_OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


class ReferenceFreeTrainer(LoraPlus, SharedEvaluation, ShardedState, PairRows):
    """Base of the trainers without a reference, to be named before TRL's class.

    Args:
        config: the run's settings.
        journal: receives phases and notes.
        stop_requests: checked while rows are tokenised.
        shortcuts: to install; also an attribute, for the receipt.
        **options: of TRL's trainer.

    Attributes:
        trains_on_prompts: whether the mean −log π(token) that is added to the loss includes the prompt.
        ref_model: None; the shortcuts ask for it.
    """

    trains_on_prompts: ClassVar[bool] = False
    ref_model = None
    # Declared for mypy; TRL's trainers set them.
    accelerator: Any
    aux_loss_enabled: bool
    aux_loss_coef: float

    def __init__(
        self, config: Config, journal: Journal, stop_requests: StopRequests, shortcuts: Shortcuts, **options: Any
    ) -> None:
        self.config = config
        self.journal = journal
        self.stop_requests = stop_requests
        self.shortcuts = shortcuts
        args, tokenizer = options["args"], options["processing_class"]
        self._tokenizer = tokenizer  # DPOTrainer._prepare_dataset reads it
        self._config_rates = disable_dropout(options["model"]) if args.disable_dropout else []
        self._token_metrics: dict[str, float] = {}
        # TRL's name in DPOTrainer: RunCallback keeps it in checkpoints.
        self._total_train_tokens = 0
        options["model"] = _with_adapter(options["model"], options.pop("peft_config"))
        datasets = {name: options.pop(name) for name in ("train_dataset", "eval_dataset")}
        rows = {name: None if one is None else self._rows(one, name) for name, one in datasets.items()}
        args.remove_unused_columns = False
        # TRL maps every row through functions that would have nothing to do: it gets the first one alone.
        firsts = {name: None if one is None else one.select([0]) for name, one in rows.items()}
        collator = DataCollatorForPreference(
            pad_token_id=tokenizer.pad_token_id, max_length=args.max_length, truncation_mode=config.truncation_mode
        )
        super().__init__(data_collator=collator, **firsts, **options)
        self.train_dataset, self.eval_dataset = rows["train_dataset"], rows["eval_dataset"]
        self.use_dpo_data_collator = True  # else ORPOTrainer warns in every evaluation
        self._weigh_router_loss()
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        if hasattr(trl.trainer.utils, "add_fused_lm_head"):  # from trl 1.16 on
            trl.trainer.utils.add_fused_lm_head(base, outputs=_FUSED_OUTPUTS)
        self._offloading: Any = contextlib.nullcontext()
        if config.activation_offloading:
            self._offloading = get_act_offloading_ctx_manager(model=self.model)
        shortcuts.install(self)

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Leave a row as it is: it has token ids already."""
        return {}

    def _rows(self, dataset: Any, name: str) -> Any:
        """Tokenise pairs as DPOTrainer does; a pair with an answer of no tokens, which has no mean, is left out."""
        self.journal.phase("load-pairs")
        args = SimpleNamespace(
            max_length=self.config.max_seq_length,
            truncation_mode=self.config.truncation_mode,
            dataset_num_proc=self.config.dataset_num_proc,
        )

        def prepare(*arguments: Any) -> Any:
            return DPOTrainer._prepare_dataset(self, *arguments)

        rows = self.tokenised_pairs(dataset, self._tokenizer, args, name.partition("_")[0], prepare)
        rows = rows.select_columns(list(ID_COLUMNS))
        answered = _with_answers(rows)
        if len(answered) == len(rows):
            return rows
        without = len(rows) - len(answered)
        self.journal.event("warning", f"{without:,} pairs dropped: an answer has no tokens, and so no mean of them")
        return rows.select(answered)

    def _weigh_router_loss(self) -> None:
        """Set the weight of a mixture of experts' load-balancing loss as DPOTrainer does, from the setting.

        Raises:
            TrainingError: the setting has a weight, and the model has no such loss.
        """
        text_config = self.model.config.get_text_config()
        own = self.config.router_aux_loss_coef
        if own and not hasattr(text_config, "output_router_logits"):
            kind = type(self.model).__name__
            raise TrainingError(
                f"router_aux_loss_coef = {own:g}: {kind} is no mixture of experts with a loss to weigh",
                hint="remove the setting",
            )
        self.aux_loss_coef = getattr(text_config, "router_aux_loss_coef", 0.0) if own is None else own
        self.aux_loss_enabled = hasattr(text_config, "output_router_logits") and self.aux_loss_coef != 0.0

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on a batch, with activations in main memory where that is on."""
        with self._offloading:
            return super().training_step(*args, **kwargs)

    def get_batch_loss_metrics(self, model: Any, batch: Any, train_eval: str = "train") -> tuple[Any, dict[str, float]]:
        """Return TRL's loss and metrics of a batch, with shared prompts where that is on."""
        with self.shortcuts.sharing:
            self.shortcuts.check_larger_pairs(self, batch)
            loss, metrics = super().get_batch_loss_metrics(model, batch, train_eval)
        if train_eval == "train":
            counted = self.accelerator.gather(batch["attention_mask"].sum().unsqueeze(0))
            self._total_train_tokens += int(counted.sum().item())
        prefix = "eval_" if train_eval == "eval" else ""
        return loss, metrics | {f"{prefix}{name}": value for name, value in self._token_metrics.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what TRL logs, and the tokens trained on so far, as DPOTrainer counts them."""
        if "loss" in logs:
            logs["num_tokens"] = float(self._total_train_tokens)
        super().log(logs, start_time)

    def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
        """Return what TRL's losses are computed from, of the batch of DPOTrainer's collator.

        Returns:
            Log-probabilities of chosen and rejected answers ``[B]``, sums or means as the loss takes them; the mean of
            the logits at each token of both; mean −log π(token) of the chosen rows; the load-balancing loss where it
            is weighed.
        """
        ids_NL, mask_NL, completion_NL = (batch[name] for name in ("input_ids", "attention_mask", "completion_mask"))
        half = len(ids_NL) // 2
        labels_NL = ids_NL.masked_fill(completion_NL == 0, _IGNORE_INDEX)
        if self.trains_on_prompts:
            labels_NL[:half] = ids_NL[:half].masked_fill(mask_NL[:half] == 0, _IGNORE_INDEX)
        inputs = {"input_ids": ids_NL, "attention_mask": mask_NL, "use_cache": False}
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        scores, aux_loss = self._scores(model, inputs, labels_NL)
        logps_NS, answer_NS = scores["log_probs"], completion_NL[:, 1:] == 1
        logps_N = (logps_NS * answer_NS).sum(1)
        if self._takes_means():
            logps_N = logps_N / answer_NS.sum(1)
        labelled_BS = labels_NL[:half, 1:] != _IGNORE_INDEX
        if getattr(self, "cpo_alpha", None) == 0:
            nll = logps_NS.new_zeros(())
        else:
            nll = -(logps_NS[:half] * labelled_BS).sum() / labelled_BS.sum()
        logits_NS = scores["mean_logits"]
        self._token_metrics = {
            "entropy": self._mean(scores["entropy"], answer_NS),
            "mean_token_accuracy": self._mean(scores["is_top1"][:half], answer_NS[:half]),
        }
        found = (
            logps_N[:half],
            logps_N[half:],
            logits_NS[:half][answer_NS[:half]],
            logits_NS[half:][answer_NS[half:]],
            nll,
        )
        return (*found, aux_loss) if self.aux_loss_enabled else found

    def _takes_means(self) -> bool:
        """Whether the loss compares means per token (trl 1.16, ``get_batch_logps`` of both trainers)."""
        return getattr(self, "loss_type", "simpo") in ("ipo", "simpo")

    def _scores(self, model: Any, inputs: dict[str, Any], labels_NL: torch.Tensor) -> tuple[dict[str, Any], Any]:
        """Return per-token values ``[N, S]``, 0 where there is no label, and the load-balancing loss."""
        if self.shortcuts.has_fused_head:
            outputs = model(**inputs, labels=labels_NL, fused_lm_head=True)
            return {name: getattr(outputs, name) for name in _FUSED_OUTPUTS}, getattr(outputs, "aux_loss", None)
        outputs = model(**inputs)
        logits, labels = outputs.logits[:, :-1].float(), labels_NL[:, 1:]
        logps = logits.log_softmax(-1)
        chosen = logps.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        scores = {
            "log_probs": chosen.masked_fill(labels == _IGNORE_INDEX, 0),
            "entropy": -(logps.exp() * logps).sum(-1),
            "mean_logits": logits.mean(-1),
            "is_top1": logits.argmax(-1) == labels,
        }
        return scores, getattr(outputs, "aux_loss", None)

    def _mean(self, values_NS: torch.Tensor, mask_NS: torch.Tensor) -> float:
        """Mean of per-token values over the tokens of a mask, those of all processes together."""
        sums = torch.stack([(values_NS.detach() * mask_NS).sum().float(), mask_NS.sum().float()])
        total, count = self.accelerator.gather(sums.unsqueeze(0)).sum(0).tolist()
        return float(total / count) if count else 0.0


class OddsRatioTrainer(ReferenceFreeTrainer, ORPOTrainer):  # type: ignore[misc]
    """ORPO: TRL's loss fine-tunes on prompt and chosen answer, and compares mean log-probabilities."""

    trains_on_prompts = True


class ContrastiveTrainer(ReferenceFreeTrainer, CPOTrainer):  # type: ignore[misc]
    """CPO and SimPO."""


def _with_answers(rows: Any) -> list[int]:
    """Return the indices of the pairs of which both answers have tokens."""
    found: list[int] = []
    first = 0
    # Lengths come from Arrow's offsets: no token becomes a Python number.
    for table in rows.with_format("arrow").iter(batch_size=10_000):
        lengths = [pyarrow.compute.list_value_length(table[name]).to_pylist() for name in ID_COLUMNS[1:]]
        found += [first + index for index, both in enumerate(zip(*lengths, strict=True)) if all(both)]
        first += len(table)
    return found


def _with_adapter(model: Any, adapter: Any) -> Any:
    """Add an adapter with the precision that DPOTrainer gives it: fp32, and bf16 over weights that are quantised."""
    if adapter is None:
        return model
    wrapped = get_peft_model(model, adapter)
    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        for name, weight in wrapped.named_parameters():
            # Updates of DoRA's magnitudes can be smaller than bf16 can represent.
            if weight.requires_grad and "lora_magnitude_vector" not in name:
                weight.data = weight.data.to(torch.bfloat16)
    return wrapped
