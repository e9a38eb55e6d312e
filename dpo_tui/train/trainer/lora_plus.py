"""LoRA+ (Hayou et al. 2024, arXiv 2402.12354): matrices B of an adapter learn at a multiple of the learning rate."""

from typing import Any

from peft.optimizers import create_loraplus_optimizer

from dpo_tui.errors import TrainingError

_OWN_GROUPS = frozenset({"params", "model", "optimizer_dict"})
"""Keywords by which transformers hands an optimizer groups of weights of its own, such as GaLore's."""


class LoraPlus:
    """Mixin of a subclass of TRL's trainers, before TRL's class: the optimizer is PEFT's for LoRA+ where that is set.

    Attributes:
        loraplus_lr_ratio: how many times the learning rate is higher for B than for A; None for an ordinary optimizer.
            Set before the training, when the optimizer is made.
    """

    # Of transformers' Trainer.
    args: Any
    model: Any
    optimizer: Any
    get_optimizer_cls_and_kwargs: Any

    loraplus_lr_ratio: float | None = None

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the optimizer; with LoRA+ of the class and the arguments that it would have without.

        Raises:
            TrainingError: the optimizer has groups of weights of its own.
        """
        if self.loraplus_lr_ratio is None or self.optimizer is not None:
            return super().create_optimizer(model)  # type: ignore[misc]
        model = self.model if model is None else model
        optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
        if _OWN_GROUPS & arguments.keys():
            raise TrainingError(
                f"loraplus_lr_ratio does not go with optim = {self.args.optim}, which divides the weights by itself",
                hint='set optim = "adamw_torch", or leave loraplus_lr_ratio out',
            )
        self.optimizer = create_loraplus_optimizer(
            model,
            optimizer_class,
            loraplus_lr_ratio=self.loraplus_lr_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **arguments,
        )
        return self.optimizer
